"""Example inputs in every form become positional arguments."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxgrow.capture import positional_inputs
from fxgrow.errors import ModelError

X = torch.ones(2)


class Net(nn.Module):
    def forward(
        self, x: Tensor, mask: Tensor | None = None, scale: float = 2.0, *, late: int = 0
    ) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("given", "bound"),
    [
        ((X, None), (X, None)),
        ([X], (X,)),
        (X, (X,)),
        ({"x": X}, (X,)),
        ({"scale": 3.0, "x": X}, (X, None, 3.0)),
        ({"x": X, "mask": X}, (X, X)),
    ],
)
def test_forms(given: Any, bound: Any) -> None:
    assert positional_inputs(Net(), given) == bound


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"x": X, "y": X}, "no positional argument 'y'.*x, mask, scale"),
        ({"x": X, "late": 1}, "takes 'late' by keyword alone"),
        ({"mask": X}, "needs 'x'"),
        (3, "are a int"),
    ],
)
def test_what_cannot_be_bound(given: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        positional_inputs(Net(), given)
    assert caught.value.code == "bad-inputs"
