"""What a specification may name, both ways: name -> object when loading, object -> name when describing.

Names are looked up in the tables of :mod:`fxgrow.spec.allowlist_tables`; nothing else is imported or called, except what the
caller lists in ``trust`` as ``package.module.object``.
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
CONTAINER = "torch.nn.Module"
_ATEN_PREFIX = "torch.ops.aten."
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
# fx writes a part that is no identifier as getattr(..., "part"), so nothing that could end the string.
_PATH_PART = re.compile(r"[A-Za-z0-9_-]{1,256}")
# Names that the source fx generates relies on.
_RESERVED = frozenset(
    ("self", "torch", "torchvision", "operator", "math", "slice", "getattr", "setattr", "complex", "device", "inf",
     "nan", "NoneType", "Ellipsis", "fx_pytree", "pytree")
)  # fmt: skip
_ATEN_NAMES = ATEN | TORCH | FUNCTIONAL | METHODS


def is_word(name: str) -> bool:
    """Whether ``name`` is an ASCII identifier, no keyword and not dunder."""
    return (
        _IDENTIFIER.fullmatch(name) is not None
        and not keyword.iskeyword(name)
        and not name.startswith("__")
    )


def is_identifier(name: str) -> bool:
    """Whether a node or input may have this name in generated source: a word that hides nothing the source needs."""
    return is_word(name) and name not in _RESERVED


def is_attribute_path(path: str) -> bool:
    """Whether ``path`` may name a module or tensor: parts like ``block1-0``, hiding nothing that a module has."""
    return all(
        _PATH_PART.fullmatch(part) is not None
        and not part.startswith("__")
        and not keyword.iskeyword(part)
        and part not in _module_attributes()
        for part in path.split(".")
    )


@cache
def _module_attributes() -> frozenset[str]:
    """Everything a graph module already has under some name."""
    return frozenset(dir(fx.GraphModule(nn.Module(), fx.Graph())))


def function_named(name: str, trust: Trust) -> Callable[..., Any]:
    """The function a call_function node may call by ``name``; ``SpecError("unknown-target")`` for any other."""
    if name in trust:
        found = _import(name)
        if callable(found):
            return found  # type: ignore[no-any-return]
    if name.startswith(_ATEN_PREFIX):
        return _aten(name)
    function = _listed(name, FUNCTIONS)
    if function is None:
        raise SpecError(
            "unknown-target",
            f"{name!r} is not a function that a spec may call, so it is not loaded; list it in trust if you know it",
        )
    return function  # type: ignore[no-any-return]


def name_of_function(function: object, trust: Trust) -> str:
    """The public name of ``function``, by identity; ``SpecError("unknown-target")`` if it has none on the list."""
    if isinstance(function, torch._ops.OpOverload):
        function_named(f"torch.ops.{function}", trust)
        return f"torch.ops.{function}"
    found = _known(function, FUNCTIONS) or _trusted(function, trust)
    if found is None:
        raise SpecError(
            "unknown-target",
            f"{_qualified(function)!r} is not a function that a spec may call, so the graph cannot be saved; list it "
            "in trust, here and when loading",
        )
    return found


def class_named(name: str, trust: Trust) -> type[nn.Module]:
    """The module class called ``name``; ``SpecError("unknown-class")`` if it is not on the list."""
    found = _import(name) if name in trust else _listed(name, CLASSES)
    if isinstance(found, type) and issubclass(found, nn.Module):
        return found
    raise SpecError(
        "unknown-class",
        f"{name!r} is not a module class that a spec may name, so it is not built; list it in trust if you know it",
    )


def name_of_class(cls: type[nn.Module], trust: Trust) -> str:
    """The public name of ``cls`` itself (not of a base); ``SpecError("unknown-class")`` if it has none on the list."""
    found = _known(cls, CLASSES) or _trusted(cls, trust)
    if found is None:
        raise SpecError(
            "unknown-class",
            f"{_qualified(cls)!r} is not a module class that a spec may name, so the graph cannot be saved; trace "
            "through it, or list it in trust, here and when loading",
        )
    return found


def _qualified(thing: object) -> str:
    return f"{getattr(thing, '__module__', '?')}.{getattr(thing, '__qualname__', repr(thing))}"


def _listed(name: str, table: Mapping[str, frozenset[str]]) -> Any:
    """The object called ``name`` if the table has it and this installation too, else None."""
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


def _known(thing: object, table: Mapping[str, frozenset[str]]) -> str | None:
    # An object of a module that was never imported cannot have come to us.
    modules = ((module, sys.modules[module]) for module in table if module in sys.modules)
    names = (
        f"{name}.{a}"
        for name, module in modules
        for a in sorted(table[name])
        if getattr(module, a, None) is thing
    )
    return next(names, None)


def _trusted(thing: object, trust: Trust) -> str | None:
    name = _qualified(thing)
    return name if name in trust and _import(name) is thing else None


def _import(name: str) -> Any:
    """The object a trusted name stands for; ``SpecError("untrusted")`` if it cannot be had."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise SpecError(
            "untrusted",
            f"{name!r} in trust cannot be imported; give package.module.object of something importable",
        ) from error


def _aten(name: str) -> Callable[..., Any]:
    """An overload of an ATen operator, say torch.ops.aten.add.Tensor."""
    operator, _, overload = name.removeprefix(_ATEN_PREFIX).partition(".")
    packet = getattr(torch.ops.aten, operator, None) if operator in _ATEN_NAMES else None
    found = getattr(packet, overload, None) if is_word(overload) else None
    if isinstance(found, torch._ops.OpOverload):
        return found
    raise SpecError(
        "unknown-target",
        f"{name!r} is not an ATen operator that a spec may call, so it is not loaded",
    )
