"""Constructors of modules and tensors as expressions."""

import inspect
from typing import Any

from torch import nn

from fxgrow.export.python.layout import Code, call_code, keyword_code
from fxgrow.export.python.names import Names
from fxgrow.export.python.values import value_code
from fxgrow.spec import Argument, BufferSpec, ModuleSpec, ParameterSpec, TupleArg, class_named

_CONVOLUTIONS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def constructor_code(module: ModuleSpec, names: Names) -> Code:
    """The call that makes a leaf module, without the arguments that are as the class has them anyway."""
    written = names.public(module.type)
    cls = class_named(module.type, frozenset())
    config = {key: _short(cls, item) for key, item in module.config.items()}
    if cls is nn.Identity:  # takes anything under any name, and ignores it
        return call_code(written, ())
    parameters = inspect.signature(cls.__init__).parameters
    if any(parameter.kind in _VARIADIC for parameter in parameters.values()):
        return call_code(written, (keyword_code(key, _plain(item)) for key, item in config.items()))
    return call_code(written, _arguments(parameters, config))


def _arguments(parameters: Any, config: dict[str, Argument]) -> list[Code]:
    """Required arguments by position, the others by name where they differ from their default."""
    known = [parameter for parameter in parameters.values() if parameter.name in config]
    required = [parameter for parameter in known if parameter.default is parameter.empty]
    others = [parameter for parameter in known if parameter.default is not parameter.empty]
    changed = [p for p in others if not _same(config[p.name], p.default)]
    return [
        *(_plain(config[parameter.name]) for parameter in required),
        *(keyword_code(parameter.name, _plain(config[parameter.name])) for parameter in changed),
    ]


def _same(argument: Argument, default: Any) -> bool:
    return type(argument) is type(default) and argument == default


def _short(cls: type[nn.Module], argument: Argument) -> Argument:
    """``3`` for ``(3, 3)`` in a convolution, which takes either."""
    if cls not in _CONVOLUTIONS or not isinstance(argument, TupleArg):
        return argument
    first = argument.tuple[0] if argument.tuple else None
    return first if type(first) is int and set(argument.tuple) == {first} else argument


def _plain(argument: Argument) -> Code:
    return value_code(argument, str)  # a constructor's arguments refer to no nodes


def _zeros(tensor: ParameterSpec | BufferSpec) -> Code:
    dtype = [] if tensor.dtype == "float32" else [f"dtype=torch.{tensor.dtype}"]
    return call_code(
        "torch.zeros", [*(map(str, tensor.shape) if tensor.shape else ("()",)), *dtype]
    )


def parameter_code(tensor: ParameterSpec) -> Code:
    """A parameter that waits for its values."""
    learns = [] if tensor.requires_grad else ["requires_grad=False"]
    return call_code("nn.Parameter", [_zeros(tensor), *learns])


def buffer_code(tensor: BufferSpec) -> Code:
    """A buffer that waits for its values: they stand in the weights file, so it always is in the state dict."""
    return _zeros(tensor)
