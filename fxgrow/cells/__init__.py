"""Cell search: genotypes as data, networks of stacked cells, search by growth and its baselines."""

from fxgrow.cells.cell import CellModule, dag, drop_path
from fxgrow.cells.derive import Derivation
from fxgrow.cells.draw import draw
from fxgrow.cells.evaluation import (
    AuxiliaryScores,
    EvaluationNetwork,
    evaluation_network,
    named_network,
)
from fxgrow.cells.firefly import FireflySearch
from fxgrow.cells.genotype import Cell, Edge, Genotype, genotype_text, read_genotype
from fxgrow.cells.genotypes.lookup import find_genotype
from fxgrow.cells.genotypes.published import GENOTYPES
from fxgrow.cells.genotypes.text_format import (
    GenotypeTuples,
    from_text,
    from_tuples,
    to_text,
    to_tuples,
)
from fxgrow.cells.operations import OPERATIONS
from fxgrow.cells.registry import SEARCHES, derive_again, read_search
from fxgrow.cells.result import SearchEpoch, SearchMethod, SearchResult
from fxgrow.cells.space import SearchSpace
from fxgrow.cells.stack import CellKind, CellPosition, cell_positions, layout
from fxgrow.deprecation import renamed_attributes

__all__ = [
    "GENOTYPES",
    "OPERATIONS",
    "SEARCHES",
    "AuxiliaryScores",
    "Cell",
    "CellKind",
    "CellModule",
    "CellPosition",
    "Derivation",
    "Edge",
    "EvaluationNetwork",
    "FireflySearch",
    "Genotype",
    "GenotypeTuples",
    "SearchEpoch",
    "SearchMethod",
    "SearchResult",
    "SearchSpace",
    "cell_positions",
    "dag",
    "derive_again",
    "draw",
    "drop_path",
    "evaluation_network",
    "find_genotype",
    "from_text",
    "from_tuples",
    "genotype_text",
    "layout",
    "named_network",
    "read_genotype",
    "read_search",
    "to_text",
    "to_tuples",
]

# Old names, which go with the next version.
__getattr__ = renamed_attributes(
    __name__,
    {
        "Kind": "CellKind",
        "Place": "CellPosition",
        "Scores": "AuxiliaryScores",
        "Search": "SearchMethod",
        "Tuples": "GenotypeTuples",
        "places": "cell_positions",
    },
)
