"""The bare form in which a model is watched: its modules and code, its floating-point tensors on the meta device."""

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_leaves, tree_map


def meta_copy(model: nn.Module) -> nn.Module:
    """A copy of the model whose floating-point tensors are on the meta device; whole numbers keep their values.

    The counters of batch norms are left out: no neuron reaches them and they would cost an operator per layer.
    """
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            bare = torch.empty_like(tensor, device="meta")
            memo[id(tensor)] = (
                nn.Parameter(bare, tensor.requires_grad)
                if isinstance(tensor, nn.Parameter)
                else bare
            )
    held = tree_leaves(
        [
            value
            for module in model.modules()
            for key, value in vars(module).items()
            if key[0] != "_"
        ]
    )
    for (
        derived
    ) in held:  # what a model keeps of its last run, and the weight of torch's old weight_norm
        if isinstance(derived, Tensor) and derived.grad_fn is not None:  # it could not be copied
            memo[id(derived)] = torch.empty_like(derived, device="meta")
    copied = (
        _bare_root(model, memo) if isinstance(model, fx.GraphModule) else _bare_copy(model, memo)
    )
    for norm in (module for module in copied.modules() if isinstance(module, _NormBase)):
        norm.num_batches_tracked = None
    return copied


_ATOMS = {type(None), bool, int, float, str}


def _bare_root(graph_module: fx.GraphModule, memo: dict[int, Any]) -> nn.Module:
    """What a graph is interpreted on: the modules and values that it names."""
    root = nn.Module()
    known = vars(root).keys()
    for key, value in vars(graph_module).items():
        if key in known or isinstance(value, (Tensor, nn.Module)):
            vars(root)[key] = _bare_value(key, value, memo)
    return root


def _bare_copy(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """``copy.deepcopy`` of a module, which spends most of its time on a dozen empty dictionaries of hooks."""
    if id(module) in memo:
        return memo[id(module)]  # type: ignore[no-any-return]
    kind = type(module)
    if hasattr(kind, "__deepcopy__"):
        return copy.deepcopy(module, memo)
    new = kind.__new__(kind)
    memo[id(module)] = new
    for key, value in vars(module).items():
        vars(new)[key] = _bare_value(key, value, memo)
    return new


def _bare_value(key: str, value: Any, memo: dict[int, Any]) -> Any:
    if type(value) in _ATOMS:
        return value
    if isinstance(value, dict) and not value:
        return type(value)()
    if key == "_modules":
        return {
            name: child if child is None else _bare_copy(child, memo)
            for name, child in value.items()
        }
    if key in ("_parameters", "_buffers"):
        return {
            name: memo.get(id(one)) if id(one) in memo else copy.deepcopy(one, memo)
            for name, one in value.items()
        }
    return copy.deepcopy(value, memo)


def meta_inputs(example_inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The example inputs on the meta device, whole numbers as they are."""
    moved: tuple[Any, ...] = tree_map(lambda x: x.to("meta") if _floating(x) else x, example_inputs)
    return moved


def _floating(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()
