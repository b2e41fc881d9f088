"""The bare form in which a model is observed: its modules and code, floats on the meta device."""

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_map

from fxgrow.copying import Memo, copy_or_share, derived_tensors, rebind_functions
from fxgrow.coupling.sparse import is_sparse
from fxgrow.errors import ModelError

_ATOMS = {type(None), bool, int, float, str}


def meta_copy(model: nn.Module) -> nn.Module:
    """Copy a model with its floating-point tensors on the meta device; integers keep their values.

    The counters of batch norms are left out: no neuron reaches them, and they would cost an
    operator per layer.
    """
    memo: Memo = {}
    for tensor in (*model.parameters(), *model.buffers()):
        if holds_reals(tensor):
            memo[id(tensor)] = _bare_tensor(tensor)
    for derived in derived_tensors(model):
        memo[id(derived)] = torch.empty_like(derived, device="meta")
    # The code of a graph module is not needed: its graph is interpreted.
    is_graph = isinstance(model, fx.GraphModule)
    copied = copy_or_share(_bare_root if is_graph else _bare_copy, model, memo)
    rebind_functions(copied, memo)
    for module in copied.modules():
        if isinstance(module, _NormBase):
            module.num_batches_tracked = None
    return copied


def _bare_tensor(tensor: Tensor) -> Tensor:
    bare = torch.empty_like(_plain(tensor.detach()), device="meta")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(bare, tensor.requires_grad)
    return bare


def _bare_root(graph_module: nn.Module, memo: Memo) -> nn.Module:
    """What a graph is interpreted on: the modules and values that it names."""
    root = nn.Module()
    known = vars(root).keys()
    for key, value in vars(graph_module).items():
        if key in known or isinstance(value, (Tensor, nn.Module)):
            vars(root)[key] = _bare_value(key, value, memo)
    return root


def _bare_copy(module: nn.Module, memo: Memo) -> nn.Module:
    """``copy.deepcopy`` of a module, without the time that it spends on a dozen empty dicts."""
    if id(module) in memo:
        return memo[id(module)]  # type: ignore[no-any-return]
    kind = type(module)
    if hasattr(kind, "__deepcopy__"):
        return copy.deepcopy(module, memo)
    new = kind.__new__(kind)
    # Written down before the children are copied: one of them may refer back to the module.
    memo[id(module)] = new
    for key, value in vars(module).items():
        vars(new)[key] = _bare_value(key, value, memo)
    vars(new).pop("_compiled_call_impl", None)  # it would run the compiled original
    return new


def _bare_value(key: str, value: Any, memo: Memo) -> Any:
    """The copy of one attribute of a module."""
    if type(value) in _ATOMS:
        return value
    if isinstance(value, dict) and not value:
        return type(value)()
    if key == "_modules":
        return _bare_modules(value, memo)
    if key in ("_parameters", "_buffers"):
        return _bare_tensors(value, memo)
    return copy.deepcopy(value, memo)


def _bare_modules(modules: dict[str, nn.Module | None], memo: Memo) -> dict[str, nn.Module | None]:
    copied: dict[str, nn.Module | None] = {}
    for name, child in modules.items():
        copied[name] = None if child is None else _bare_copy(child, memo)
    return copied


def _bare_tensors(tensors: dict[str, Tensor | None], memo: Memo) -> dict[str, Tensor | None]:
    copied: dict[str, Tensor | None] = {}
    for name, tensor in tensors.items():
        known = id(tensor) in memo
        copied[name] = memo.get(id(tensor)) if known else copy.deepcopy(tensor, memo)
    return copied


def meta_inputs(example_inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The example inputs with floats on the meta device and integers as they are."""
    moved: tuple[Any, ...] = tree_map(_to_meta, example_inputs)
    return moved


def _to_meta(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return x
    if x.is_nested:
        raise ModelError(
            "bad-inputs",
            "the example inputs hold a nested tensor, through which neurons cannot be followed; "
            "give a padded one and a mask",
        )
    return _plain(x).to("meta") if holds_reals(x) else _plain(x)


def _plain(tensor: Tensor) -> Tensor:
    """A tensor without its subclass, which makes new objects of all that is known of."""
    return tensor if type(tensor) in (Tensor, nn.Parameter) else tensor.as_subclass(Tensor)


def holds_reals(tensor: Tensor) -> bool:
    """Whether a tensor holds real or complex numbers, which are observed without their values.

    Those of sparse tensors are kept: the meta device has few of their operators.
    """
    return not is_sparse(tensor) and (tensor.is_floating_point() or tensor.is_complex())
