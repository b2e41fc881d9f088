from collections.abc import Callable

import pytest
import torch
from torch import nn

from fxgrow.continual.state import bit_equal, eval_outputs, tensor_fingerprint
from tests.networks import images, network


def buffer(module: nn.Module) -> None:
    module.get_submodule("1").running_var[0] *= 1 + 1e-15  # type: ignore[index, operator]


def sign(module: nn.Module) -> None:
    """Of a zero, which compares as equal."""
    module.get_submodule("9").bias.data[0] = -0.0  # type: ignore[operator, union-attr]


def shape(module: nn.Module) -> None:
    layer = module.get_submodule("9")
    layer.weight.data = layer.weight.data.reshape(5, 2)  # type: ignore[operator, union-attr]


def name(module: nn.Module) -> None:
    module.register_buffer("more", torch.empty(0))


def zeroed() -> nn.Module:
    module = network("chain")
    module.get_submodule("9").bias.data[0] = 0.0  # type: ignore[operator, union-attr]
    return module


@pytest.mark.parametrize("change", [buffer, sign, shape, name, lambda module: module.float()])
def test_every_bit_counts(change: Callable[[nn.Module], object]) -> None:
    module = zeroed()
    assert tensor_fingerprint(module) == tensor_fingerprint(zeroed())
    change(module)
    assert tensor_fingerprint(module) != tensor_fingerprint(zeroed())


def test_what_is_said_is_said_in_evaluation_mode() -> None:
    module = network("chain").train()
    first, again = (eval_outputs(module, (images(),)) for _ in range(2))
    assert (
        module.training
        and bit_equal(first, again)
        and torch.equal(first[0], module.eval()(images()))
    )


def test_same_is_equal_to_the_last_bit() -> None:
    one = torch.tensor([1.0], dtype=torch.float64)
    assert bit_equal((one,), (one.clone(),))
    assert (
        not bit_equal((one,), (one * (1 + 1e-15),))
        and not bit_equal((one,), (one, one))
        and not bit_equal((), (one,))
    )
