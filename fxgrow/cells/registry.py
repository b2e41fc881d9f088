"""All ways to find cells, by name: growing them, and what that is compared with. Each is its own settings."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

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
"""``model_copy(update=...)`` changes some of the settings, which are those of the papers where these say them."""

_MAX_FILE_BYTES = 2**24


def read_search(path: Path) -> SearchResult:
    """The search that a file holds. Raises ``SpecError`` with code and path."""
    return SEARCH_DOCUMENT.read(read_text(path, _MAX_FILE_BYTES), str(path))


def derive_again(result: SearchResult, derivation: Derivation) -> Genotype:
    """The cells of a finished search by growth, read off in another way.

    Raises ``SpecError`` (``bad-value``) if the search was none by growth: its channels are not known.
    """
    if not result.grown:
        raise SpecError(
            "bad-value",
            f"a search by {result.method} grows nothing; derive from one by firefly",
            "grown",
        )
    initial, final = (dict(result.grown[i].channels) for i in (0, -1))
    channels = {OperationSite.named(words): count for words, count in final.items()}
    return derivation.derive(channels, min(initial.values(), default=1))
