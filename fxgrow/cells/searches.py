"""All ways to find cells, by name: growing them, and what that is compared with. Each is its own settings."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from fxgrow.cells.derive import Derivation
from fxgrow.cells.firefly import FireflySearch
from fxgrow.cells.genotype import Genotype
from fxgrow.cells.result import SEARCH, SearchResult
from fxgrow.cells.rivals import RIVALS, Rival
from fxgrow.cells.template import Spot
from fxgrow.errors import SpecError
from fxgrow.spec import read_text

SEARCHES: Mapping[str, FireflySearch | Rival] = MappingProxyType({"firefly": FireflySearch(), **RIVALS})
"""``model_copy(update=...)`` changes some of the settings, which are those of the papers where these say them."""

FILE_LIMIT = 2**24


def read_search(path: Path) -> SearchResult:
    """The search that a file holds. Raises ``SpecError`` with code and path."""
    return SEARCH.read(read_text(path, FILE_LIMIT), str(path))


def derive_again(result: SearchResult, derivation: Derivation) -> Genotype:
    """The cells of a finished search by growth, read off in another way.

    Raises ``SpecError`` (``bad-value``) if the search was none by growth: its channels are not known.
    """
    if not result.grown:
        raise SpecError("bad-value", f"a search by {result.method} grows nothing; derive from one by firefly", "grown")
    initial, final = (dict(result.grown[i].channels) for i in (0, -1))
    channels = {Spot.named(words): count for words, count in final.items()}
    return derivation.derive(channels, min(initial.values(), default=1))
