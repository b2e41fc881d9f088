"""All cell searches by name: search by growth, and its baselines. Each is its own settings."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from fxgrow.argument_checks import checked
from fxgrow.cells.baselines import BASELINES, BaselineSearch
from fxgrow.cells.derive import Derivation
from fxgrow.cells.firefly import FireflySearch
from fxgrow.cells.genotype import Genotype
from fxgrow.cells.result import SEARCH_DOCUMENT, SearchResult
from fxgrow.cells.template import OperationSite
from fxgrow.errors import SpecError
from fxgrow.spec import read_text

SEARCHES: Mapping[str, FireflySearch | BaselineSearch] = MappingProxyType(
    {"firefly": FireflySearch(), **BASELINES}
)
"""With the settings of their papers, if given there; ``model_copy(update=...)`` changes some."""

_MAX_FILE_BYTES = 2**24  # a search holds a genotype per epoch and candidate


@checked
def read_search(path: Path) -> SearchResult:
    """Read a finished search, of the present version or an older one.

    Args:
        path: a JSON file, ``search.json`` in the directory of a search.

    Returns:
        The result of the search.

    Raises:
        SpecError: it cannot be read; with the path of what is wrong.

    Example:
        >>> read_search(Path("runs/cells/search.json")).method
        'FireflySearch'
    """
    return SEARCH_DOCUMENT.read(read_text(path, _MAX_FILE_BYTES), str(path))


@checked
def derive_again(result: SearchResult, derivation: Derivation) -> Genotype:
    """Derive the cells of a finished search by growth in another way.

    Args:
        result: the search.
        derivation: how to derive them.

    Returns:
        The genotype; that of the search itself if ``derivation`` is the one of its settings.

    Raises:
        SpecError: the search was not one by growth, so there are no channels (``bad-value``).

    Example:
        >>> derive_again(read_search(path), Derivation(keep_all=True))
    """
    if not result.grown:
        raise SpecError(
            "bad-value",
            f"a search by {result.method} grows nothing; derive from one by firefly",
            "grown",
        )
    first, last = result.grown[0], result.grown[-1]
    channels = {OperationSite.parse(text): count for text, count in last.channels.items()}
    # All operations of a template begin with the same number of channels.
    initial = min(first.channels.values(), default=1)
    return derivation.derive(channels, initial)
