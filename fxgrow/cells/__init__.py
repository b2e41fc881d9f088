"""Cells: what a cell search finds, as data; the literature's genotypes, and the way to and from their form."""

from fxgrow.cells.genotype import Cell, Edge, Genotype, genotype_text, read_genotype
from fxgrow.cells.known import GENOTYPES
from fxgrow.cells.literature import Tuples, from_text, from_tuples, to_text, to_tuples

__all__ = [
    "GENOTYPES",
    "Cell",
    "Edge",
    "Genotype",
    "Tuples",
    "from_text",
    "from_tuples",
    "genotype_text",
    "read_genotype",
    "to_text",
    "to_tuples",
]
