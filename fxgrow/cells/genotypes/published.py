"""Genotypes that the literature compares with.

Found by: NASNet-A, Zoph et al. 2018; AmoebaNet-A, Real et al. 2019; DARTS of first (V1) and second
order (V2), Liu, Simonyan, Yang 2019. Which operation sits on which edge is as listed by the DARTS
authors (github.com/quark0/darts, cnn/genotypes.py). ``specs/architectures/genotypes`` holds them as
JSON.
"""

from collections.abc import Mapping
from types import MappingProxyType

from fxgrow.cells.genotype import Genotype
from fxgrow.cells.genotypes.text_format import GenotypeTuples, from_tuples


def _genotype(normal: str, normal_concat: str, reduce: str, reduce_concat: str) -> Genotype:
    """A genotype from text: ``operation source`` for every edge, commas between edges."""
    tuples = GenotypeTuples(
        _edges(normal), _states(normal_concat), _edges(reduce), _states(reduce_concat)
    )
    return from_tuples(tuples)


def _edges(text: str) -> list[tuple[str, int]]:
    edges = []
    for pair in text.split(","):
        operation, source = pair.split()
        edges.append((operation, int(source)))
    return edges


def _states(text: str) -> list[int]:
    return [int(word) for word in text.split()]


# Every second comma ends a node: nodes have two edges each.
GENOTYPES: Mapping[str, Genotype] = MappingProxyType(
    {
        "NASNet": _genotype(
            """
            sep_conv_5x5 1, sep_conv_3x3 0, sep_conv_5x5 0, sep_conv_3x3 0, avg_pool_3x3 1,
            skip_connect 0,
            avg_pool_3x3 0, avg_pool_3x3 0, sep_conv_3x3 1, skip_connect 1
            """,
            "2 3 4 5 6",
            """
            sep_conv_5x5 1, sep_conv_7x7 0, max_pool_3x3 1, sep_conv_7x7 0, avg_pool_3x3 1,
            sep_conv_5x5 0,
            skip_connect 3, avg_pool_3x3 2, sep_conv_3x3 2, max_pool_3x3 1
            """,
            "4 5 6",
        ),
        "AmoebaNet": _genotype(
            """
            avg_pool_3x3 0, max_pool_3x3 1, sep_conv_3x3 0, sep_conv_5x5 2, sep_conv_3x3 0,
            avg_pool_3x3 3,
            sep_conv_3x3 1, skip_connect 1, skip_connect 0, avg_pool_3x3 1
            """,
            "4 5 6",
            """
            avg_pool_3x3 0, sep_conv_3x3 1, max_pool_3x3 0, sep_conv_7x7 2, sep_conv_7x7 0,
            avg_pool_3x3 1,
            max_pool_3x3 0, max_pool_3x3 1, conv_7x1_1x7 0, sep_conv_3x3 5
            """,
            "3 4 6",
        ),
        "DARTS_V1": _genotype(
            """
            sep_conv_3x3 1, sep_conv_3x3 0, skip_connect 0, sep_conv_3x3 1, skip_connect 0,
            sep_conv_3x3 1,
            sep_conv_3x3 0, skip_connect 2
            """,
            "2 3 4 5",
            """
            max_pool_3x3 0, max_pool_3x3 1, skip_connect 2, max_pool_3x3 0, max_pool_3x3 0,
            skip_connect 2,
            skip_connect 2, avg_pool_3x3 0
            """,
            "2 3 4 5",
        ),
        "DARTS_V2": _genotype(
            """
            sep_conv_3x3 0, sep_conv_3x3 1, sep_conv_3x3 0, sep_conv_3x3 1, sep_conv_3x3 1,
            skip_connect 0,
            skip_connect 0, dil_conv_3x3 2
            """,
            "2 3 4 5",
            """
            max_pool_3x3 0, max_pool_3x3 1, skip_connect 2, max_pool_3x3 1, max_pool_3x3 0,
            skip_connect 2,
            skip_connect 2, max_pool_3x3 1
            """,
            "2 3 4 5",
        ),
    }
)
