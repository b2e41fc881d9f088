"""Other ways to find cells, on the same search space: the baselines of search by growth."""

from collections.abc import Mapping
from types import MappingProxyType

from fxgrow.cells.baselines.darts import Darts, derive
from fxgrow.cells.baselines.random_cells import RandomCells, random_genotype
from fxgrow.cells.baselines.search_cost import SearchCost, search_cost
from fxgrow.cells.baselines.supernet import (
    FixedChoiceNetwork,
    Mixture,
    SinglePath,
    Supernet,
    single_path,
)
from fxgrow.cells.baselines.weight_sharing import WeightSharing
from fxgrow.training import WeightTraining

BaselineSearch = Darts | RandomCells | WeightSharing

BASELINES: Mapping[str, BaselineSearch] = MappingProxyType(
    {
        "darts-first": Darts(order=1),
        "darts-second": Darts(order=2),
        "random": RandomCells(),
        "weight-sharing": WeightSharing(),
    }
)
"""By name, with the settings of their papers. Each is a ``SearchMethod``.

``model_copy(update=...)`` changes some of the settings.
"""

__all__ = [
    "BASELINES",
    "BaselineSearch",
    "Darts",
    "FixedChoiceNetwork",
    "Mixture",
    "RandomCells",
    "SearchCost",
    "SinglePath",
    "Supernet",
    "WeightSharing",
    "WeightTraining",
    "derive",
    "random_genotype",
    "search_cost",
    "single_path",
]
