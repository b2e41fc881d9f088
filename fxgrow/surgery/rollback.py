"""All or nothing: a module that is changed in place is put back if anything fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from fxgrow.surgery.resize import named_tensors


@contextmanager
def restore_on_failure(module: nn.Module, optimizer: Optimizer | None = None) -> Iterator[None]:
    """Put a module back as it was when the body raises, whatever it raises.

    Surgery gives a tensor new data and leaves the old data alone, so keeping that costs no memory
    until then.

    Args:
        module: its tensors, gradients and attributes are put back.
        optimizer: its state is put back, too.

    Example:
        >>> with restore_on_failure(model, optimizer):
        ...     resize(model, maps, optimizer)
        ...     check(model)
    """
    tensors = []
    for tensor in named_tensors(module).values():
        tensors.append((tensor, tensor.data, tensor.grad))
    attributes = [(vars(submodule), _copy_tables(submodule)) for submodule in module.modules()]
    state = {}
    if optimizer is not None:
        for parameter, values in optimizer.state.items():
            state[parameter] = dict(values)
    try:
        yield
    except BaseException:  # an interrupt too must not leave half a change behind
        for tensor, data, gradient in tensors:
            _put_back(tensor, data, gradient)
        for parameter, values in state.items():
            optimizer.state[parameter] = values  # type: ignore[union-attr]
        for current, before in attributes:
            current.clear()
            current.update(before)
        raise


def _copy_tables(module: nn.Module) -> dict[str, Any]:
    """The attributes of a module.

    The tables of children, parameters and buffers are changed in place, so they are copied.
    """
    attributes = {}
    for name, value in vars(module).items():
        attributes[name] = value.copy() if isinstance(value, dict) else value
    return attributes


def _put_back(tensor: Tensor, data: Tensor, gradient: Tensor | None) -> None:
    # A gradient must have its tensor's shape at all times.
    tensor.grad = None
    tensor.data = data
    tensor.grad = gradient
