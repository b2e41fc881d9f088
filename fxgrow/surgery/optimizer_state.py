"""What an optimizer keeps per parameter (momentum, say), when the parameter gets another shape.

It goes by shape: a tensor of the parameter's own shape follows its axes, a single number stays.
Where that is not what an optimizer of torch means, the tables say so. Anything else cannot be
carried and is refused before work is spent. What the rules of ``state_rules`` make of it is theirs.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adafactor, Adagrad, Optimizer, Rprop
from torch.utils._pytree import tree_leaves

from fxgrow.errors import GrowthError
from fxgrow.surgery.index_map import IndexMap
from fxgrow.surgery.memory_format import memory_format_of

_AVERAGED_AXES: dict[type[Optimizer], dict[str, int]] = {
    # Second moments of matrices are kept as their means over the last axis and the one before.
    Adafactor: {"row_var": -1, "col_var": -2},
}
"""Tensors of the parameter's shape but for one axis of size 1: by optimizer and key, that axis."""

_INITIAL_OPTIONS: dict[type[Optimizer], dict[str, str]] = {
    Rprop: {"step_size": "lr"},
    Adagrad: {"sum": "initial_accumulator_value"},
}
"""Tensors that do not start at zero: by optimizer and key, the option that they start at."""


def require_own(optimizer: Optimizer, model: nn.Module) -> None:
    """Check that an optimizer is of a model.

    Args:
        optimizer: may hold parameters of other modules, too.
        model: the model that is to grow.

    Raises:
        GrowthError: ``foreign-optimizer`` if it holds no parameter of the model.
    """
    own = {id(parameter) for parameter in model.parameters()}
    held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    if own and own.isdisjoint(held):
        raise GrowthError(
            "foreign-optimizer",
            f"the {type(optimizer).__name__} holds no parameter of {type(model).__name__}, so it "
            "would not train what grows; give the optimizer of this very model, or none",
        )


def require_shapes(optimizer: Optimizer, model: nn.Module) -> None:
    """Check that all that an optimizer keeps of a model can follow shapes.

    Args:
        optimizer: may hold parameters of other modules, too.
        model: the model that is to grow.

    Raises:
        GrowthError: ``optimizer-state`` if it keeps something that cannot.
    """
    kind = type(optimizer).__name__
    own = {id(parameter): name for name, parameter in model.named_parameters()}
    for parameter, state in optimizer.state.items():
        if id(parameter) not in own:
            continue
        for key, value in state.items():
            if not _is_carriable(type(optimizer), key, value, parameter):
                raise GrowthError(
                    "optimizer-state",
                    f"the {kind} keeps {key!r} of {own[id(parameter)]!r}, which cannot follow a "
                    "parameter that changes its shape; grow without the optimizer and make a new "
                    "one for the grown model",
                )


def _is_carriable(kind: type[Optimizer], key: str, value: Any, parameter: Tensor) -> bool:
    if not isinstance(value, Tensor):
        return not any(isinstance(leaf, Tensor) for leaf in tree_leaves(value))
    if value.numel() == 1 or value.shape == parameter.shape:
        return True
    return key in _AVERAGED_AXES.get(kind, {})


@torch.no_grad()
def map_state(optimizer: Optimizer, parameter: Tensor, axes: Mapping[int, IndexMap]) -> None:
    """Let what an optimizer keeps of a parameter follow the parameter's axes, unscaled.

    New entries start as the optimizer itself starts them.

    Args:
        optimizer: the optimizer; it may hold nothing of the parameter.
        parameter: the parameter before it is resized.
        axes: the map of each axis that changes.
    """
    kind = type(optimizer)
    state = optimizer.state.get(parameter, {})
    for key, value in state.items():
        if not isinstance(value, Tensor):
            continue
        averaged = _AVERAGED_AXES.get(kind, {}).get(key)
        if averaged is not None:
            dropped = averaged % parameter.dim()
            kept_axes = {axis: axes[axis] for axis in axes if axis != dropped}
            state[key] = mapped(value, kept_axes)
        elif value.shape == parameter.shape and value.dim():
            state[key] = mapped(value, axes, _initial(optimizer, parameter, key))


@torch.no_grad()
def restart_state(optimizer: Optimizer, parameter: Tensor) -> None:
    """Let an optimizer forget a parameter: its next step of it is a first one.

    Args:
        optimizer: the optimizer; it may hold nothing of the parameter.
        parameter: the parameter; what is kept of it has its shape, or the one it gets.
    """
    if not isinstance(optimizer, Adagrad):
        optimizer.state.pop(parameter, None)
        return
    # Older versions of torch make its state when it is made, not in the first step.
    state = optimizer.state.get(parameter, {})
    for key, value in state.items():
        state[key] = torch.full_like(value, _initial(optimizer, parameter, key))


def _initial(optimizer: Optimizer, parameter: Tensor, key: str) -> float:
    """What an optimizer's value of an entry is before the first step."""
    option = _INITIAL_OPTIONS.get(type(optimizer), {}).get(key)
    return 0.0 if option is None else _option(optimizer, parameter, option)


def mapped(value: Tensor, axes: Mapping[int, IndexMap], initial: float = 0.0) -> Tensor:
    """A tensor with several axes mapped, unscaled.

    Args:
        value: any tensor.
        axes: the map of each axis that changes.
        initial: what entries are that copy nothing.

    Returns:
        The mapped tensor, a new one, and a dense one.
    """
    # SGD's momentum of an ``nn.Embedding(sparse=True)`` holds every row that was ever looked up,
    # so with zeros for the others it does the same steps.
    value = value.to_dense() if value.layout is torch.sparse_coo else value
    memory_format = memory_format_of(value)
    for axis, index_map in sorted(axes.items()):
        value = index_map.apply(value, axis, scaled=False)
        if initial and len(index_map.new):
            value.index_fill_(axis, index_map.new.to(value.device), initial)
    return value.contiguous(memory_format=memory_format)


def _option(optimizer: Optimizer, parameter: Tensor, name: str) -> float:
    """An option of the group that a parameter is in."""
    for group in optimizer.param_groups:
        if any(held is parameter for held in group["params"]):
            return float(group[name])
    return float(optimizer.defaults[name])
