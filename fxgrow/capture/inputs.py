"""Example inputs in whatever form a user has them, brought into one: a tuple of positional arguments."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from fxgrow.errors import ModelError

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def positional_inputs(model: nn.Module, example_inputs: Any) -> tuple[Any, ...]:
    """The example inputs as the positional arguments of the model's ``forward``.

    ``example_inputs``: a tuple or list of arguments, one tensor, or a mapping of keyword arguments, whose gaps are
    filled with the defaults of ``forward``. Raises ``ModelError`` ``bad-inputs`` for a name that ``forward`` does not
    take by position and for a required argument that is not given.
    """
    if isinstance(example_inputs, Tensor):
        return (example_inputs,)
    if isinstance(example_inputs, Mapping):
        return _bound(model, example_inputs)
    if isinstance(example_inputs, (tuple, list)):
        return tuple(example_inputs)
    raise ModelError(
        "bad-inputs",
        f"the example inputs are a {type(example_inputs).__name__}, which cannot be fed to {type(model).__name__}; "
        "give a tuple of arguments, a tensor or a dict of keyword arguments",
    )


def move_to(values: Any, device: torch.device | str) -> Any:
    """``values``, however they are nested, with every tensor among them on ``device``."""
    return tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, values)


def _bound(model: nn.Module, given: Mapping[str, Any]) -> tuple[Any, ...]:
    taken = {
        p.name: p
        for p in inspect.signature(model.forward).parameters.values()
        if p.kind in _BY_POSITION
    }
    strange = [name for name in given if name not in taken]
    if strange:
        raise ModelError(
            "bad-inputs",
            f"{type(model).__name__}.forward takes no positional argument {strange[0]!r}, so the example inputs cannot "
            f"be bound; it takes {', '.join(taken) or 'none'}",
        )
    names = list(taken)
    last = max((names.index(name) for name in given), default=-1)
    return tuple(_value(model, taken[name], given) for name in names[: last + 1])


def _value(model: nn.Module, parameter: inspect.Parameter, given: Mapping[str, Any]) -> Any:
    if parameter.name in given:
        return given[parameter.name]
    if parameter.default is not inspect.Parameter.empty:
        return parameter.default
    raise ModelError(
        "bad-inputs",
        f"{type(model).__name__}.forward needs {parameter.name!r}, which the example inputs do not give; add it",
    )


def argument_names(model: nn.Module, arguments: tuple[Any, ...]) -> tuple[str, ...]:
    """A name for each positional argument: that of ``forward``'s own parameter where there is one."""
    parameters = inspect.signature(model.forward).parameters.values()
    named = [p.name for p in parameters if p.kind in _BY_POSITION]
    return tuple(named[i] if i < len(named) else f"argument_{i}" for i in range(len(arguments)))
