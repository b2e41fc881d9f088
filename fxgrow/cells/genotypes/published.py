"""Genotypes that the literature compares with; ``specs/architectures/genotypes`` holds them as JSON.

Found by: NASNet-A, Zoph et al. 2018; AmoebaNet-A, Real et al. 2019; DARTS of first (V1) and second order (V2), Liu,
Simonyan, Yang 2019. Which operation sits on which edge is as listed by the DARTS authors (github.com/quark0/darts,
cnn/genotypes.py).
"""

from collections.abc import Mapping
from types import MappingProxyType

from fxgrow.cells.genotype import Genotype
from fxgrow.cells.genotypes.text_format import GenotypeTuples, from_tuples


def _found(normal: str, normal_concat: str, reduce: str, reduce_concat: str) -> Genotype:
    """A genotype from words: ``operation source`` for every edge, commas between edges."""
    return from_tuples(
        GenotypeTuples(
            _edges(normal), _states(normal_concat), _edges(reduce), _states(reduce_concat)
        )
    )


def _edges(words: str) -> list[tuple[str, int]]:
    return [(operation, int(source)) for operation, source in map(str.split, words.split(","))]


def _states(words: str) -> list[int]:
    return [int(word) for word in words.split()]


GENOTYPES: Mapping[str, Genotype] = MappingProxyType(
    {
        "NASNet": _found(
            """
            sep_conv_5x5 1, sep_conv_3x3 0, sep_conv_5x5 0, sep_conv_3x3 0, avg_pool_3x3 1, skip_connect 0,
            avg_pool_3x3 0, avg_pool_3x3 0, sep_conv_3x3 1, skip_connect 1
            """,
            "2 3 4 5 6",
            """
            sep_conv_5x5 1, sep_conv_7x7 0, max_pool_3x3 1, sep_conv_7x7 0, avg_pool_3x3 1, sep_conv_5x5 0,
            skip_connect 3, avg_pool_3x3 2, sep_conv_3x3 2, max_pool_3x3 1
            """,
            "4 5 6",
        ),
        "AmoebaNet": _found(
            """
            avg_pool_3x3 0, max_pool_3x3 1, sep_conv_3x3 0, sep_conv_5x5 2, sep_conv_3x3 0, avg_pool_3x3 3,
            sep_conv_3x3 1, skip_connect 1, skip_connect 0, avg_pool_3x3 1
            """,
            "4 5 6",
            """
            avg_pool_3x3 0, sep_conv_3x3 1, max_pool_3x3 0, sep_conv_7x7 2, sep_conv_7x7 0, avg_pool_3x3 1,
            max_pool_3x3 0, max_pool_3x3 1, conv_7x1_1x7 0, sep_conv_3x3 5
            """,
            "3 4 6",
        ),
        "DARTS_V1": _found(
            """
            sep_conv_3x3 1, sep_conv_3x3 0, skip_connect 0, sep_conv_3x3 1, skip_connect 0, sep_conv_3x3 1,
            sep_conv_3x3 0, skip_connect 2
            """,
            "2 3 4 5",
            """
            max_pool_3x3 0, max_pool_3x3 1, skip_connect 2, max_pool_3x3 0, max_pool_3x3 0, skip_connect 2,
            skip_connect 2, avg_pool_3x3 0
            """,
            "2 3 4 5",
        ),
        "DARTS_V2": _found(
            """
            sep_conv_3x3 0, sep_conv_3x3 1, sep_conv_3x3 0, sep_conv_3x3 1, sep_conv_3x3 1, skip_connect 0,
            skip_connect 0, dil_conv_3x3 2
            """,
            "2 3 4 5",
            """
            max_pool_3x3 0, max_pool_3x3 1, skip_connect 2, max_pool_3x3 1, max_pool_3x3 0, skip_connect 2,
            skip_connect 2, max_pool_3x3 1
            """,
            "2 3 4 5",
        ),
    }
)
