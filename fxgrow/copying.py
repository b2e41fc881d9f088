"""Copies of models that work on their own.

``copy.deepcopy`` stops at four things that models hold in practice. A function is shared, not
copied, so that a hook which was made inside the model (``lambda *a: self.kept.append(a)``) goes on
writing into the old one. A tensor that a module keeps of its last run has a history, and cannot be
copied. What else cannot (a lock, a Python module) is shared. And an optimizer's copy gets copies of
*all* its parameters, those of other modules included, and forgets its own attributes.
"""

import copy
import pickle
from collections.abc import Callable, Iterator, Sequence
from types import CellType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from fxgrow.errors import ModelError

Memo = dict[int, Any]
"""What stands for each object in the copy, by the object's ``id``, as for ``copy.deepcopy``."""

_ATOMS = {type(None), bool, int, float, str}


def copy_module(model: nn.Module, memo: Memo | None = None) -> nn.Module:
    """Copy a model so that the copy's hooks and functions work on the copy.

    Args:
        model: any module; it stays as it is.
        memo: what stands for objects that are not to be copied; it is filled as by ``deepcopy``.

    Returns:
        The copy, of the same class.

    Example:
        >>> wider = copy_module(model)
        >>> wider.load_state_dict(model.state_dict())
    """
    memo = {} if memo is None else memo
    for tensor in derived_tensors(model):
        memo[id(tensor)] = tensor.detach().clone()
    copied = copy_or_share(copy.deepcopy, model, memo)
    rebind_functions(copied, memo)
    return copied


def copy_or_share(
    copy_all: Callable[[nn.Module, Memo], nn.Module], model: nn.Module, memo: Memo
) -> nn.Module:
    """Copy a model; attributes that cannot be copied are shared (locks, generators, modules).

    Args:
        copy_all: copies a model, as ``copy.deepcopy`` does.
        model: the model.
        memo: what stands for objects that are not to be copied; it is filled.

    Returns:
        The copy.

    Raises:
        ModelError: ``uncopyable-model``, if what cannot be copied holds a part of the model.
    """
    _copy_compressed(model, memo)
    before = dict(memo)
    try:
        return copy_all(model, memo)
    except _UNCOPYABLE:
        memo.clear()
        memo.update(before)
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name.startswith("_") or type(value) in _ATOMS or _is_copyable(value, before):
                continue
            if _holds_parts(value):
                where = f"{path}.{name}".lstrip(".")
                raise ModelError(
                    "uncopyable-model",
                    f"the attribute {where!r} of {type(model).__name__} holds parts of the model "
                    "and something that cannot be copied, so no copy of the model can be grown; "
                    "keep these apart",
                )
            memo[id(value)] = value
    try:
        return copy_all(model, memo)
    except _UNCOPYABLE as error:
        raise ModelError(
            "uncopyable-model",
            f"{type(model).__name__} cannot be copied ({error}), so it cannot be grown; give the "
            "class that says so a __deepcopy__",
        ) from error


def _copy_compressed(model: nn.Module, memo: Memo) -> None:
    for buffer in model.buffers():
        if buffer.layout in _COMPRESSED:
            memo[id(buffer)] = buffer.clone()


_COMPRESSED = (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)
"""Layouts of sparse tensors that ``copy.deepcopy`` does not know."""

_UNCOPYABLE = (TypeError, RuntimeError, copy.Error, pickle.PicklingError)
"""What ``copy.deepcopy`` raises for objects that it cannot copy."""


def _is_copyable(value: Any, memo: Memo) -> bool:
    try:
        copy.deepcopy(value, dict(memo))
    except _UNCOPYABLE:
        return False
    return True


def _holds_parts(value: Any) -> bool:
    return any(isinstance(leaf, (nn.Module, Tensor)) for leaf in tree_leaves(value))


def copy_with_optimizers(
    model: nn.Module, optimizers: Sequence[Optimizer]
) -> tuple[nn.Module, tuple[Optimizer, ...]]:
    """Copy a model and its optimizers together.

    Args:
        model: any module; it stays as it is.
        optimizers: its optimizers, which stay as they are. The copies hold the copied parameters of
            the model; parameters of other modules are theirs still, so that they go on learning.

    Returns:
        The copies, in the same order.
    """
    memo: Memo = {}
    copied = copy_module(model, memo)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                memo.setdefault(id(parameter), parameter)
    copies = []
    for optimizer in optimizers:
        copied_optimizer = copy.deepcopy(optimizer, memo)
        _copy_own_attributes(optimizer, copied_optimizer, memo)
        copies.append(copied_optimizer)
    return copied, tuple(copies)


def _copy_own_attributes(optimizer: Optimizer, copied: Optimizer, memo: Memo) -> None:
    """Copy what torch leaves out: attributes of a subclass, and hooks.

    A method that was replaced on the optimizer (schedulers do so with ``step``) stays behind: it
    steps the optimizer that it was made for.
    """
    for name, value in vars(optimizer).items():
        if name.endswith("_hooks") and isinstance(value, dict):
            vars(copied)[name] = value.copy()
        elif name not in vars(copied) and not callable(value):
            vars(copied)[name] = copy.deepcopy(value, memo)


def derived_tensors(model: nn.Module) -> Iterator[Tensor]:
    """Tensors in attributes that have a history of autograd, which can't be copied.

    They are what a model remembers of its last run, and the weight of torch's old ``weight_norm``.
    """
    for module in model.modules():
        for key, value in vars(module).items():
            if key.startswith("_") or type(value) in _ATOMS:
                continue
            for leaf in tree_leaves(value):
                if isinstance(leaf, Tensor) and leaf.grad_fn is not None:
                    yield leaf


def rebind_functions(copied: nn.Module, memo: Memo) -> None:
    """Let the functions that a copy holds (hooks, attributes) refer to it, not to the original.

    Args:
        copied: the copy, which still shares its functions with the original.
        memo: what stands for each object of the original.
    """
    for module in copied.modules():
        for name, value in vars(module).items():
            if isinstance(value, FunctionType):
                vars(module)[name] = _rebound(value, memo)
            elif name.endswith("_hooks") and isinstance(value, dict):
                for key, hook in value.items():
                    value[key] = _rebound(hook, memo)


def closure_values(function: Any) -> tuple[Any, ...]:
    """What the variables of a function refer to that it took from around it."""
    values = []
    for cell in getattr(function, "__closure__", None) or ():
        if cell != CellType():  # an empty cell: a variable that is not assigned yet
            values.append(cell.cell_contents)
    return tuple(values)


def _rebound(function: Any, memo: Memo) -> Any:
    """The same function, with the copies of what it took from around it; itself if there are none.

    Bound methods and partial functions are copied by ``deepcopy`` already.
    """
    if not isinstance(function, FunctionType):
        return function
    if id(function) in memo:
        return memo[id(function)]
    memo[id(function)] = function  # a function may refer to itself
    old_cells, old_defaults = function.__closure__ or (), function.__defaults__ or ()
    cells = tuple(_rebound_cell(cell, memo) for cell in old_cells)
    defaults = tuple(_rebound_value(value, memo) for value in old_defaults)
    pairs = (*zip(cells, old_cells, strict=True), *zip(defaults, old_defaults, strict=True))
    if all(new is old for new, old in pairs):
        return function
    new = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        defaults or None,
        cells or None,
    )
    new.__kwdefaults__ = function.__kwdefaults__
    new.__qualname__ = function.__qualname__
    vars(new).update(vars(function))
    memo[id(function)] = new
    return new


def _rebound_cell(cell: CellType, memo: Memo) -> CellType:
    if cell == CellType():
        return cell
    value = _rebound_value(cell.cell_contents, memo)
    return cell if value is cell.cell_contents else CellType(value)


def _rebound_value(value: Any, memo: Memo) -> Any:
    """What stands in the copy for a value that a function took from around it.

    A container that belongs to nobody (the features of all hooks, say) is shared, unless it holds
    something of the model.
    """
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, FunctionType):
        return _rebound(value, memo)
    if isinstance(value, (dict, list, tuple, set)):
        entries = value.values() if isinstance(value, dict) else value
        if any(isinstance(entry, (nn.Module, nn.Parameter)) for entry in entries):
            return copy.deepcopy(value, memo)
    return value
