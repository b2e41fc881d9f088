"""What a specification may name: name -> object when loading, object -> name when describing.

Names are looked up in the tables of :mod:`fxgrow.spec.allowlist_tables`. Nothing else is imported
or called, except what the caller lists in ``trust`` as ``package.module.object``.
"""

import importlib
import keyword
import re
import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import fx, nn

from fxgrow.errors import SpecError
from fxgrow.spec.allowlist_tables import ATEN, CLASSES, FUNCTIONAL, FUNCTIONS, METHODS, TORCH

Trust = frozenset[str]
"""Qualified names of functions and module classes that the caller allows beyond the tables."""

CONTAINER = "torch.nn.Module"
"""The type of a module that only holds other modules and tensors."""

_ATEN_PREFIX = "torch.ops.aten."
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
# fx writes a part that is no identifier as getattr(..., "part"), so no part may end the string.
_PATH_PART = re.compile(r"[A-Za-z0-9_-]{1,256}")
# Names that the source fx generates relies on.
_RESERVED = frozenset(
    ("self", "torch", "torchvision", "operator", "math", "slice", "getattr", "setattr", "complex",
     "device", "inf", "nan", "NoneType", "Ellipsis", "fx_pytree", "pytree")
)  # fmt: skip
_ATEN_NAMES = ATEN | TORCH | FUNCTIONAL | METHODS


def is_word(name: str) -> bool:
    """Whether ``name`` is an ASCII identifier, but no keyword and not dunder."""
    return (
        _IDENTIFIER.fullmatch(name) is not None
        and not keyword.iskeyword(name)
        and not name.startswith("__")
    )


def is_identifier(name: str) -> bool:
    """Whether a node or input may have this name in generated source.

    It has to be a word that shadows no name which the source needs.
    """
    return is_word(name) and name not in _RESERVED


def is_attribute_path(path: str) -> bool:
    """Whether ``path`` may name a module or tensor.

    Its parts may look like ``block1-0``, and must not shadow an attribute that every module has.
    """
    return all(map(_is_path_part, path.split(".")))


def _is_path_part(part: str) -> bool:
    return (
        _PATH_PART.fullmatch(part) is not None
        and not part.startswith("__")
        and not keyword.iskeyword(part)
        and part not in _module_attributes()
    )


@cache
def _module_attributes() -> frozenset[str]:
    """The names of all attributes that an empty graph module has."""
    return frozenset(dir(fx.GraphModule(nn.Module(), fx.Graph())))


def function_named(name: str, trust: Trust) -> Callable[..., Any]:
    """Look up a function that a call_function node may call.

    Args:
        name: The public qualified name of the function.
        trust: Names that the caller allows beyond the tables.

    Returns:
        The function.

    Raises:
        SpecError: ``unknown-target`` if the name is not allowed, ``untrusted`` if it is trusted but
            cannot be imported, ``missing-package`` if its package is not installed.
    """
    if name in trust:
        trusted = _import(name)
        if callable(trusted):
            return trusted  # type: ignore[no-any-return]
    if name.startswith(_ATEN_PREFIX):
        return _aten_overload(name)
    function = _from_table(name, FUNCTIONS)
    if function is None:
        raise SpecError(
            "unknown-target",
            f"{name!r} is not a function that a spec may call, so it is not loaded; list it in "
            "trust if you know it",
        )
    return function  # type: ignore[no-any-return]


def name_of_function(function: object, trust: Trust) -> str:
    """Find the public name of a function that a graph calls.

    Args:
        function: The function; it is compared by identity.
        trust: Names that the caller allows beyond the tables.

    Returns:
        The name under which ``function_named`` finds it again.

    Raises:
        SpecError: ``unknown-target`` if the function has no allowed name.
    """
    if isinstance(function, torch._ops.OpOverload):
        function_named(f"torch.ops.{function}", trust)
        return f"torch.ops.{function}"
    name = _name_in_table(function, FUNCTIONS) or _trusted_name(function, trust)
    if name is None:
        raise SpecError(
            "unknown-target",
            f"{_qualified_name(function)!r} is not a function that a spec may call, so the graph "
            "cannot be saved; list it in trust, here and when loading",
        )
    return name


def class_named(name: str, trust: Trust) -> type[nn.Module]:
    """Look up a module class that a module record may name.

    Args:
        name: The public qualified name of the class.
        trust: Names that the caller allows beyond the tables.

    Returns:
        The class.

    Raises:
        SpecError: ``unknown-class`` if the name is not allowed or names no module class.
    """
    cls = _import(name) if name in trust else _from_table(name, CLASSES)
    if isinstance(cls, type) and issubclass(cls, nn.Module):
        return cls
    raise SpecError(
        "unknown-class",
        f"{name!r} is not a module class that a spec may name, so it is not built; list it in "
        "trust if you know it",
    )


def name_of_class(cls: type[nn.Module], trust: Trust) -> str:
    """Find the public name of a module class itself, not of one of its bases.

    Args:
        cls: The class; it is compared by identity.
        trust: Names that the caller allows beyond the tables.

    Returns:
        The name under which ``class_named`` finds it again.

    Raises:
        SpecError: ``unknown-class`` if the class has no allowed name.
    """
    name = _name_in_table(cls, CLASSES) or _trusted_name(cls, trust)
    if name is None:
        raise SpecError(
            "unknown-class",
            f"{_qualified_name(cls)!r} is not a module class that a spec may name, so the graph "
            "cannot be saved; trace through it, or list it in trust, here and when loading",
        )
    return name


def _qualified_name(thing: object) -> str:
    return f"{getattr(thing, '__module__', '?')}.{getattr(thing, '__qualname__', repr(thing))}"


def _from_table(name: str, table: Mapping[str, frozenset[str]]) -> Any:
    """The object called ``name`` if both the table and this installation have it, else None."""
    module, _, attribute = name.rpartition(".")
    if attribute not in table.get(module, ()):
        return None
    try:
        return getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        package = module.partition(".")[0]
        raise SpecError(
            "missing-package", f"{name} needs {package}, which is not installed; install it"
        ) from error


def _name_in_table(thing: object, table: Mapping[str, frozenset[str]]) -> str | None:
    """The first name under which the table has ``thing`` itself, else None."""
    for module_name, attributes in table.items():
        # An object of a module that was never imported cannot be in a graph.
        module = sys.modules.get(module_name)
        if module is None:
            continue
        for attribute in sorted(attributes):
            if getattr(module, attribute, None) is thing:
                return f"{module_name}.{attribute}"
    return None


def _trusted_name(thing: object, trust: Trust) -> str | None:
    name = _qualified_name(thing)
    return name if name in trust and _import(name) is thing else None


def _import(name: str) -> Any:
    """The object that a trusted name stands for; ``SpecError("untrusted")`` if there is none."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise SpecError(
            "untrusted",
            f"{name!r} in trust cannot be imported; give package.module.object of something "
            "importable",
        ) from error


def _aten_overload(name: str) -> Callable[..., Any]:
    """An overload of an ATen operator, such as ``torch.ops.aten.add.Tensor``."""
    operator, _, overload_name = name.removeprefix(_ATEN_PREFIX).partition(".")
    # torch.ops looks up any attribute dynamically, so the name is checked before it is used.
    packet = getattr(torch.ops.aten, operator, None) if operator in _ATEN_NAMES else None
    overload = getattr(packet, overload_name, None) if is_word(overload_name) else None
    if isinstance(overload, torch._ops.OpOverload):
        return overload
    raise SpecError(
        "unknown-target",
        f"{name!r} is not an ATen operator that a spec may call, so it is not loaded",
    )
