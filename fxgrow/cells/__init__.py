"""Cells: what a cell search finds, as data; the literature's genotypes; the networks that cells are stacked to."""

from fxgrow.cells.cell import CellModule, dag, drop_path
from fxgrow.cells.derive import Derivation
from fxgrow.cells.draw import draw
from fxgrow.cells.evaluation import EvaluationNetwork, Scores, evaluation_network
from fxgrow.cells.firefly import FireflySearch
from fxgrow.cells.genotype import Cell, Edge, Genotype, genotype_text, read_genotype
from fxgrow.cells.known import GENOTYPES
from fxgrow.cells.literature import Tuples, from_text, from_tuples, to_text, to_tuples
from fxgrow.cells.named import find_genotype
from fxgrow.cells.operations import OPERATIONS
from fxgrow.cells.result import Search, SearchEpoch, SearchResult
from fxgrow.cells.space import SearchSpace
from fxgrow.cells.stack import Kind, Place, layout, places

__all__ = [
    "GENOTYPES",
    "OPERATIONS",
    "Cell",
    "CellModule",
    "Derivation",
    "Edge",
    "EvaluationNetwork",
    "FireflySearch",
    "Genotype",
    "Kind",
    "Place",
    "Scores",
    "Search",
    "SearchEpoch",
    "SearchResult",
    "SearchSpace",
    "Tuples",
    "dag",
    "draw",
    "drop_path",
    "evaluation_network",
    "find_genotype",
    "from_text",
    "from_tuples",
    "genotype_text",
    "layout",
    "places",
    "read_genotype",
    "to_text",
    "to_tuples",
]
