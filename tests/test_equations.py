"""Equations in every spelling that torch takes."""

import pytest
import torch

from fxgrow.equations import (
    contraction_order,
    einsum_arguments,
    parse_equation,
    tensordot_equation,
)

SPELLINGS = {
    "bi,io->bo": (2, 2),
    "bi,io": (2, 2),
    " b i , i o -> o b ": (2, 2),
    "Bi,iO": (2, 2),
    "...i,io->...o": (4, 2),
    "...i,io": (3, 2),
    "i...,io->...": (3, 2),
    "ii->i": (2,),
    "ii": (2,),
    "a...b,c...b->...ac": (3, 4),
}


@pytest.mark.parametrize("equation", SPELLINGS)
def test_the_canonical_text_computes_the_same(equation: str) -> None:
    torch.manual_seed(0)
    ranks = SPELLINGS[equation]
    operands = [torch.randn([3] * rank, dtype=torch.float64) for rank in ranks]
    text = parse_equation(equation, ranks).text()
    assert "." not in text and " " not in text
    torch.testing.assert_close(
        torch.einsum(text, operands), torch.einsum(equation, operands), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("equation", ["ab,bc->ac", "abc->a"])
def test_an_equation_that_does_not_fit_is_an_error(equation: str) -> None:
    with pytest.raises(ValueError, match=r"terms|letters"):
        parse_equation(equation, (2,))


def test_lists_of_numbers_are_letters() -> None:
    x, w = object(), object()
    assert einsum_arguments((x, [0, ..., 1], w, [1, 2], [0, ..., 2])) == ("A...B,BC->A...C", [x, w])
    assert einsum_arguments((x, [0, 1], w, [1, 2])) == ("AB,BC", [x, w])
    assert einsum_arguments(("ab,bc", [x, w])) == einsum_arguments(("ab,bc", x, w))
    assert einsum_arguments((x, w)) is None


@pytest.mark.parametrize("dims", [1, 2, ([2, 0], [0, 1])])
def test_tensordot_is_an_equation(dims: object) -> None:
    left, right = torch.randn(3, 3, 3), torch.randn(3, 3, 3)
    text = tensordot_equation(3, 3, dims).text()
    torch.testing.assert_close(torch.einsum(text, left, right), torch.tensordot(left, right, dims))


def test_weights_meet_activations_first() -> None:
    terms = [("i", "j"), ("j", "o"), ("b", "i")]
    order = list(contraction_order(terms, [True, True, False], ("b", "o")))
    assert order == [(2, 0, ("b", "j")), (3, 1, ("b", "o"))]


def test_activations_that_share_a_weight_meet_first() -> None:
    terms = [("b", "i"), ("o", "i", "j"), ("b", "j")]
    order = list(contraction_order(terms, [False, True, False], ("b", "o")))
    assert order == [(0, 2, ("b", "i", "j")), (3, 1, ("b", "o"))]
