"""Other ways to find cells, on the same search space: what growing them is compared with."""

from collections.abc import Mapping
from types import MappingProxyType

from fxgrow.cells.rivals.darts import Darts, derive
from fxgrow.cells.rivals.expense import Expense, expense
from fxgrow.cells.rivals.random_cells import RandomCells, random_genotype
from fxgrow.cells.rivals.supernet import Chosen, Mixture, Path, Supernet, path_of
from fxgrow.cells.rivals.weight_sharing import WeightSharing
from fxgrow.cells.weights import WeightSettings

Rival = Darts | RandomCells | WeightSharing

RIVALS: Mapping[str, Rival] = MappingProxyType(
    {
        "darts-first": Darts(order=1),
        "darts-second": Darts(order=2),
        "random": RandomCells(),
        "weight-sharing": WeightSharing(),
    }
)
"""By name, with the settings of their papers; ``model_copy(update=...)`` changes some. Each is a ``Search``."""

__all__ = [
    "RIVALS",
    "Chosen",
    "Darts",
    "Expense",
    "Mixture",
    "Path",
    "RandomCells",
    "Rival",
    "Supernet",
    "WeightSettings",
    "WeightSharing",
    "derive",
    "expense",
    "path_of",
    "random_genotype",
]
