"""A genotype by its name or from a file, in either of its forms."""

from pathlib import Path

from fxgrow.argument_checks import checked
from fxgrow.cells.genotype import MAX_GENOTYPE_BYTES, Genotype, read_genotype
from fxgrow.cells.genotypes.published import GENOTYPES
from fxgrow.cells.genotypes.text_format import from_text
from fxgrow.documents import MESSAGE
from fxgrow.errors import ModelError
from fxgrow.spec import read_text


@checked
def find_genotype(words: str) -> Genotype:
    """Find a genotype by its name, or else read it from a file.

    Args:
        words: one of the names in ``GENOTYPES``, or the path of a file: JSON, or a text in the
            literature's form.

    Returns:
        The genotype.

    Raises:
        ModelError: it is neither a name nor a file (``unknown-genotype``).
        SpecError: the file holds no genotype.

    Example:
        >>> find_genotype("DARTS_V2") == GENOTYPES["DARTS_V2"]
        True
    """
    # A name counts before a file that is called the same.
    if words in GENOTYPES:
        return GENOTYPES[words]
    path = Path(words)
    if not _exists(path):
        raise ModelError(
            "unknown-genotype",
            f"{words[:MESSAGE]!r} is neither a known genotype nor a file; name "
            f"{', '.join(GENOTYPES)}, or a file that holds one",
        )
    text = read_text(path, MAX_GENOTYPE_BYTES)
    # JSON begins with a brace, the literature's form with a name.
    return read_genotype(path) if text.lstrip().startswith("{") else from_text(text)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long for the file system, or a null byte in it
        return False
