"""All or nothing: a module that is being changed in place is put back as it was if anything fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from fxgrow.surgery.resize import named_tensors


@contextmanager
def restore_on_failure(module: nn.Module, optimizer: Optimizer | None = None) -> Iterator[None]:
    """Put back tensors, gradients, attributes and the optimiser's state when the body raises, whatever it raises.

    Surgery gives a tensor new data and leaves the old one alone, so keeping the old data costs no memory until then.
    """
    values = [(tensor, tensor.data, tensor.grad) for tensor in named_tensors(module).values()]
    attributes = [
        (vars(one), {key: _shallow(value) for key, value in vars(one).items()})
        for one in module.modules()
    ]
    state = (
        {parameter: dict(one) for parameter, one in optimizer.state.items()} if optimizer else {}
    )
    try:
        yield
    except BaseException:
        for tensor, data, gradient in values:
            _put_back(tensor, data, gradient)
        for parameter, one in state.items():
            optimizer.state[parameter] = one  # type: ignore[union-attr]
        for mine, before in attributes:
            mine.clear()
            mine.update(before)
        raise


def _shallow(value: Any) -> Any:
    """The tables of children, parameters and buffers are changed in place, so they are copied."""
    return value.copy() if isinstance(value, dict) else value


def _put_back(tensor: Tensor, data: Tensor, gradient: Tensor | None) -> None:
    tensor.grad = None
    tensor.data = data
    tensor.grad = gradient
