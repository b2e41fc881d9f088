"""A genotype by name or from a file, in whichever form it is."""

from pathlib import Path

from fxgrow.cells.genotype import _MAX_FILE_BYTES, Genotype, read_genotype
from fxgrow.cells.genotypes.published import GENOTYPES
from fxgrow.cells.genotypes.text_format import from_text
from fxgrow.documents import MESSAGE
from fxgrow.errors import ModelError
from fxgrow.spec import read_text


def find_genotype(words: str) -> Genotype:
    """One of ``GENOTYPES`` by its name, else the genotype in a file: JSON, or a text as a search prints it.

    Raises ``ModelError`` (``unknown-genotype``) if it is neither, ``SpecError`` if the file cannot be read.
    """
    if words in GENOTYPES:
        return GENOTYPES[words]
    path = Path(words)
    if not _is_there(path):
        raise ModelError(
            "unknown-genotype",
            f"{words[:MESSAGE]!r} is neither a known genotype nor a file; name {', '.join(GENOTYPES)}, or a file "
            "that holds one",
        )
    text = read_text(path, _MAX_FILE_BYTES)
    return read_genotype(path) if text.lstrip().startswith("{") else from_text(text)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long for the file system, or no name
        return False
