"""Nested values with tensors come back as they were, and nothing else comes back at all."""

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fxgrow.documents import decode_tree, encode_tree
from fxgrow.errors import InternalError, SpecError


def there_and_back(value: Any) -> Any:
    tensors: dict[str, Tensor] = {}
    text = json.dumps(encode_tree(value, tensors, "t"), allow_nan=False)
    return decode_tree(json.loads(text), tensors)


def test_values_come_back_with_their_types() -> None:
    value = {"betas": (0.9, 0.1 + 0.2), 3: [None, True, -1], "lr": -math.inf, "": {}, "e": ()}
    again = there_and_back(value)
    assert again == value
    assert type(again["betas"]) is tuple and type(again[3]) is list and again[3][1] is True
    assert math.isnan(there_and_back(math.nan))


def test_tensors_keep_every_bit() -> None:
    step, moment = torch.tensor(7.0), torch.tensor([[math.nan, -0.0], [1e-45, math.inf]])
    again = there_and_back({"state": [step, (moment, moment.to(torch.int8))]})
    assert again["state"][0] is not None and torch.equal(again["state"][0], step)
    assert again["state"][1][0].view(torch.int32).equal(moment.view(torch.int32))
    assert again["state"][1][1].dtype is torch.int8


def test_other_kinds_are_refused() -> None:
    with pytest.raises(InternalError, match="a set cannot be written"):
        encode_tree({"a": {1}}, {}, "t")


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"tuple": 1},
        {"tuple": [{"x": 1}]},
        {"table": [[1]]},
        {"table": [[[], 1]]},
        {"float": "1"},
        {"tensor": 3},
        {"tensor": "t.0", "tuple": []},
    ],
)
def test_data_that_no_encoder_wrote(tree: Any) -> None:
    with pytest.raises(SpecError) as caught:
        decode_tree(tree, {"t.0": torch.ones(())})
    assert caught.value.code == "bad-value"


def test_a_tensor_that_is_not_there() -> None:
    with pytest.raises(SpecError, match=r"no tensor 't\.1'") as caught:
        decode_tree([{"tensor": "t.1"}], {"t.0": torch.ones(())})
    assert caught.value.code == "missing-tensor"
