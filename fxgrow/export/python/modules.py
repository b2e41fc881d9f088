"""Constructors of modules and tensors as expressions."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from fxgrow.export.python.layout import Code, call_code, keyword_code
from fxgrow.export.python.names import Names
from fxgrow.export.python.values import value_code
from fxgrow.spec import Argument, BufferSpec, ModuleSpec, ParameterSpec, TupleArg, class_named

_CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def constructor_code(module: ModuleSpec, names: Names) -> Code:
    """The call that makes a leaf module.

    Args:
        module: the module, with the arguments of its constructor.
        names: how the source writes the class, and what it imports for it.

    Returns:
        The call, without arguments that equal the defaults of the class.
    """
    written = names.public(module.type)
    cls = class_named(module.type, frozenset())
    config = {key: _shortened(cls, item) for key, item in module.config.items()}
    # An identity takes anything under any name, and ignores it.
    if cls is nn.Identity:
        return call_code(written, ())
    parameters = inspect.signature(cls.__init__).parameters
    for parameter in parameters.values():
        # With *args or **kwargs the signature does not tell what may be left out.
        if parameter.kind in _VARIADIC:
            return call_code(written, _keywords(config))
    return call_code(written, _arguments(parameters, config))


def _keywords(config: Mapping[str, Argument]) -> list[Code]:
    return [keyword_code(key, _constant(item)) for key, item in config.items()]


def _arguments(
    parameters: Mapping[str, inspect.Parameter], config: Mapping[str, Argument]
) -> list[Code]:
    """Required arguments by position, the others by name where they differ from their default."""
    required: list[Code] = []
    changed = {}
    for parameter in parameters.values():
        if parameter.name not in config:
            continue
        argument = config[parameter.name]
        if parameter.default is parameter.empty:
            required.append(_constant(argument))
        elif not _same(argument, parameter.default):
            changed[parameter.name] = argument
    return [*required, *_keywords(changed)]


def _same(argument: Argument, default: Any) -> bool:
    # The type too: 1 == True == 1.0 in Python.
    return type(argument) is type(default) and argument == default


def _shortened(cls: type[nn.Module], argument: Argument) -> Argument:
    """``3`` for ``(3, 3)`` in a convolution, which takes either."""
    if cls not in _CONVOLUTIONS or not isinstance(argument, TupleArg):
        return argument
    first = argument.tuple[0] if argument.tuple else None
    return first if type(first) is int and set(argument.tuple) == {first} else argument


def _constant(argument: Argument) -> Code:
    # A constructor's arguments refer to no nodes, so none is ever looked up.
    return value_code(argument, str)


def _zeros(tensor: ParameterSpec | BufferSpec) -> Code:
    sizes = list(map(str, tensor.shape)) or ["()"]
    dtype = [] if tensor.dtype == "float32" else [f"dtype=torch.{tensor.dtype}"]
    return call_code("torch.zeros", [*sizes, *dtype])


def parameter_code(tensor: ParameterSpec) -> Code:
    """A parameter that waits for its values."""
    flags = [] if tensor.requires_grad else ["requires_grad=False"]
    return call_code("nn.Parameter", [_zeros(tensor), *flags])


def buffer_code(tensor: BufferSpec) -> Code:
    """A buffer that waits for its values.

    The weights file holds them, so every buffer is in the state dict.
    """
    return _zeros(tensor)
