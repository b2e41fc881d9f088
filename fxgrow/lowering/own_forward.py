"""A module whose ``forward`` is code that was derived from its class's own.

The module stays an instance of its class, with its parameters, children, attributes and methods:
its type becomes a subclass that has another ``forward``. Calls of another kind than the one that
the code was derived from (a mask where there was none) are computed by the class's own.
"""

import copy
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from types import ModuleType
from typing import Any

from torch import fx, nn


class Free(Enum):
    """Stands for an argument that is not fixed in the code."""

    ARGUMENT = "argument"


@dataclass(frozen=True)
class ForwardCode:
    """The code of a forward.

    Args:
        text: a function ``forward``, as torch.fx writes it.
        names: what the text refers to by name.
        modules: the Python modules that it refers to: the name there, and their own.
    """

    text: str
    names: tuple[tuple[str, Any], ...]
    modules: tuple[tuple[str, str], ...]

    @staticmethod
    def of(graph: fx.Graph) -> "ForwardCode":
        """The code of a graph over the children and parameters of a module."""
        code = graph.python_code("self")
        names, modules = [], []
        for name, value in sorted(code.globals.items(), key=lambda item: item[0]):
            if not re.search(rf"\b{re.escape(name)}\b", code.src):
                continue
            if isinstance(value, ModuleType):
                modules.append((name, value.__name__))
            else:
                names.append((name, value))
        return ForwardCode(code.src, tuple(names), tuple(modules))

    def compiled(self) -> Callable[..., Any]:
        """The function."""
        namespace: dict[str, Any] = dict(self.names)
        for name, path in self.modules:
            namespace[name] = importlib.import_module(path)
        # torch.fx wrote the text, of a graph whose names it made or checked.
        exec(compile(self.text, "<fxgrow.lower>", "exec"), namespace)  # noqa: S102
        function: Callable[..., Any] = namespace["forward"]
        return function


@dataclass(frozen=True)
class OwnForward:
    """What calls of a module compute that are like the one that was traced.

    Args:
        evaluating: the code in evaluation mode.
        training: the code in training mode.
        arguments: the names of the arguments of the traced call, in order, each with the value that
            is fixed in the code (None, a flag), or ``Free.ARGUMENT``.
    """

    evaluating: ForwardCode
    training: ForwardCode
    arguments: tuple[tuple[str, Any], ...]


def with_own_forward(module: Any, own: OwnForward) -> None:
    """Give a module a forward of its own, in place.

    Args:
        module: the module; its type becomes a subclass of what it is.
        own: the code of the forward.
    """
    base: Any = type(module)
    module.__class__ = _subclass(base, own)


@cache
def _subclass(base: Any, own: OwnForward) -> type[nn.Module]:
    """The subclass of a module's class that has this forward; for equal code always the same."""
    modes = {True: own.training.compiled(), False: own.evaluating.compiled()}
    defaults = default_arguments(base)

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        given = dict(zip(defaults, args, strict=False))
        given.update(kwargs)
        values = []
        for name, fixed in own.arguments:
            value = given.pop(name, defaults.get(name))
            if fixed is not Free.ARGUMENT and not _is_fixed(value, fixed):
                return base.forward(self, *args, **kwargs)
            values.append(value)
        is_known = all(_is_fixed(value, defaults.get(name)) for name, value in given.items())
        if not is_known or len(args) > len(defaults):
            return base.forward(self, *args, **kwargs)
        return modes[self.training](self, *values)

    # What asks for the arguments of the model gets those of its class.
    forward.__signature__ = inspect.signature(base.forward)  # type: ignore[attr-defined]
    members = {
        "__doc__": base.__doc__,
        "__module__": base.__module__,
        "__reduce__": lambda self: (_bare_instance, (base, own), self.__dict__),
        "__deepcopy__": _deep_copy,
        "forward": forward,
    }
    return type(f"Lowered{base.__name__}", (base,), members)


def _is_fixed(value: Any, fixed: Any) -> bool:
    """Whether an argument is the one that the code holds; what is symbolic is never compared."""
    return value is fixed or (isinstance(value, PLAIN) and value == fixed)


PLAIN = (bool, str, float)
"""Types of arguments, beside None, that may be fixed in the code."""


def default_arguments(kind: type[nn.Module]) -> Mapping[str, Any]:
    """The arguments that a class's forward takes by position, with their defaults.

    Args:
        kind: the class of a module.

    Returns:
        By name the default; None for an argument that has none.
    """
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    defaults = {}
    # Without ``self``.
    for parameter in list(inspect.signature(kind.forward).parameters.values())[1:]:
        if parameter.kind in by_position:
            has_default = parameter.default is not inspect.Parameter.empty
            defaults[parameter.name] = parameter.default if has_default else None
    return defaults


def _bare_instance(base: Any, own: OwnForward) -> nn.Module:
    """A module without attributes, which are about to be read from a file."""
    kind: Any = _subclass(base, own)
    instance: nn.Module = kind.__new__(kind)
    return instance


def _deep_copy(self: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """A copy of the same type."""
    copied = type(self).__new__(type(self))
    memo[id(self)] = copied
    copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
    return copied
