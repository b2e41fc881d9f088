"""All or nothing: a module that is changed in place is put back if anything fails."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from fxgrow.surgery.resize import named_tensors, replace_data

Undo = Callable[[], None]
"""Puts something back as it was when the function was made."""


@contextmanager
def restore_on_failure(module: nn.Module, optimizers: Sequence[Optimizer] = ()) -> Iterator[None]:
    """Put a module back as it was when the body raises, whatever it raises.

    Surgery gives a tensor new data and leaves the old data alone, so keeping that costs no memory
    until then.

    Args:
        module: its tensors, gradients, flags (``requires_grad``, ``training``), hooks and
            attributes are put back.
        optimizers: their state, groups of parameters and hooks are put back, too.

    Example:
        >>> with restore_on_failure(model, [optimizer]):
        ...     resize(model, maps, [optimizer])
        ...     check(model)
    """
    undo = [_undo_tensor(tensor) for tensor in named_tensors(module).values()]
    undo += [_undo_attributes(submodule) for submodule in module.modules()]
    for optimizer in optimizers:
        undo += [_undo_optimizer(optimizer), _undo_hooks(optimizer)]
    try:
        yield
    except BaseException:  # an interrupt too must not leave half a change behind
        for put_back in undo:
            put_back()
        raise


def _undo_tensor(tensor: Tensor) -> Undo:
    data, gradient, requires_grad = tensor.data, tensor.grad, tensor.requires_grad

    def put_back() -> None:
        replace_data(tensor, data, gradient)
        if tensor.is_leaf:
            tensor.requires_grad_(requires_grad)

    return put_back


def _undo_attributes(module: nn.Module) -> Undo:
    """Put back attributes, and what is in their tables (children, parameters, buffers, hooks).

    The tables stay the same objects: a handle that removes a hook knows its table.
    """
    attributes = dict(vars(module))
    tables = [(value, value.copy()) for value in attributes.values() if isinstance(value, dict)]

    def put_back() -> None:
        vars(module).clear()
        vars(module).update(attributes)
        for table, contents in tables:
            _replace_contents(table, contents)

    return put_back


def _undo_optimizer(optimizer: Optimizer) -> Undo:
    state = {parameter: dict(values) for parameter, values in optimizer.state.items()}
    groups = []
    for group in optimizer.param_groups:
        groups.append((group, dict(group), list(group["params"])))

    def put_back() -> None:
        # In the old order, too: what was reset has lost its place.
        kept = {parameter: optimizer.state[parameter] for parameter in state}
        _replace_contents(optimizer.state, kept)
        for parameter, values in state.items():
            _replace_contents(optimizer.state[parameter], values)
        for group, options, parameters in groups:
            _replace_contents(group, options)
            group["params"][:] = parameters

    return put_back


def _undo_hooks(optimizer: Optimizer) -> Undo:
    hooks = []
    for name, table in vars(optimizer).items():
        if name.endswith("_hooks") and isinstance(table, dict):
            hooks.append((table, table.copy()))

    def put_back() -> None:
        for table, contents in hooks:
            _replace_contents(table, contents)

    return put_back


def _replace_contents(table: dict[Any, Any], contents: Mapping[Any, Any]) -> None:
    table.clear()
    table.update(contents)
