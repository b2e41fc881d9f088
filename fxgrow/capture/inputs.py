"""Example inputs in any form that a user has them, as a tuple of positional arguments."""

import inspect
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from fxgrow.errors import ModelError

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def positional_inputs(model: nn.Module, example_inputs: Any) -> tuple[Any, ...]:
    """The example inputs as the positional arguments of the model's ``forward``.

    Args:
        model: the model.
        example_inputs: a tuple or list of arguments, one tensor, or a mapping of keyword arguments,
            whose gaps are filled with the defaults of ``forward``.

    Returns:
        The positional arguments.

    Raises:
        ModelError: ``bad-inputs`` for a name that ``forward`` does not take by position, and for a
            required argument that is not given.
    """
    if isinstance(example_inputs, Tensor):
        return (example_inputs,)
    if isinstance(example_inputs, Mapping):
        return _bind(model, example_inputs)
    if isinstance(example_inputs, (tuple, list)):
        return tuple(example_inputs)
    raise ModelError(
        "bad-inputs",
        f"the example inputs are a {type(example_inputs).__name__}, which cannot be fed to "
        f"{type(model).__name__}; "
        "give a tuple of arguments, a tensor or a dict of keyword arguments",
    )


def move_to(values: Any, device: torch.device | str) -> Any:
    """The same values with every tensor on a device.

    Args:
        values: tensors and other things, however they are nested.
        device: the device.

    Returns:
        The values, nested alike.
    """
    return tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, values)


def _positional_parameters(model: nn.Module) -> dict[str, inspect.Parameter]:
    """The parameters that ``forward`` takes by position, by name."""
    parameters = {}
    for parameter in inspect.signature(model.forward).parameters.values():
        if parameter.kind in _BY_POSITION:
            parameters[parameter.name] = parameter
    return parameters


def _bind(model: nn.Module, given: Mapping[str, Any]) -> tuple[Any, ...]:
    """The arguments up to the last one that is given."""
    parameters = _positional_parameters(model)
    for name in given:
        if name not in parameters:
            raise ModelError("bad-inputs", _not_bound(model, name, parameters))
    # Parameters before the last one that is given are filled with their defaults.
    arguments = []
    missing = set(given)
    for name, parameter in parameters.items():
        if not missing:
            break
        arguments.append(_argument(model, parameter, given))
        missing.discard(name)
    return tuple(arguments)


def _argument(model: nn.Module, parameter: inspect.Parameter, given: Mapping[str, Any]) -> Any:
    if parameter.name in given:
        return given[parameter.name]
    if parameter.default is not inspect.Parameter.empty:
        return parameter.default
    raise ModelError(
        "bad-inputs",
        f"{type(model).__name__}.forward needs {parameter.name!r}, which the example inputs do not "
        "give; add it",
    )


def bind_call(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, ...]:
    """The arguments of a call as positional arguments of the model's ``forward``.

    Args:
        model: the model.
        args: arguments by position.
        kwargs: arguments by name.

    Returns:
        The arguments up to the last one that is given.

    Raises:
        ModelError: ``bad-inputs``, as for ``positional_inputs``.
    """
    if not kwargs:
        return args
    names = argument_names(model, args)
    return _bind(model, {**dict(zip(names, args, strict=True)), **kwargs})


def argument_names(model: nn.Module, arguments: tuple[Any, ...]) -> tuple[str, ...]:
    """A name for each positional argument.

    Args:
        model: the model.
        arguments: the positional arguments of its ``forward``.

    Returns:
        The names of ``forward``'s own parameters, and ``argument_i`` for what ``*args`` takes.
    """
    names = list(_positional_parameters(model))
    # More arguments than parameters: the rest goes into *args.
    for i in range(len(names), len(arguments)):
        names.append(f"argument_{i}")
    return tuple(names[: len(arguments)])


def _not_bound(model: nn.Module, name: str, parameters: Collection[str]) -> str:
    """Why an argument cannot be given by position, and what to do."""
    forward = f"{type(model).__name__}.forward"
    known = inspect.signature(model.forward).parameters.get(name)
    if known is not None and known.kind is inspect.Parameter.KEYWORD_ONLY:
        return (
            f"{forward} takes {name!r} by keyword alone, and a graph's inputs have positions; take "
            "the * out of its arguments, or wrap the model in a module without one"
        )
    return (
        f"{forward} takes no positional argument {name!r}, so the example inputs cannot be bound; "
        f"it takes {', '.join(parameters) or 'none'}"
    )
