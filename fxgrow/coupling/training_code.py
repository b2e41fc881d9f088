"""Whether a model's own code does something else in training mode, so that it is run there too.

A momentum encoder (He et al. 2020, MoCo) is updated from the encoder in training alone, and a
codebook by its moving averages: what is combined there has to grow together.
"""

from collections.abc import Iterator
from functools import cache
from types import CodeType
from typing import Any

from torch import nn


def reads_training_mode(model: nn.Module) -> bool:
    """Whether code of a module that holds parameters or buffers names ``training``.

    Layers of torch do the same to neurons in both modes. Where a module holds nothing (DropPath),
    nothing can be combined.

    Args:
        model: the model.

    Returns:
        True also if the mode is only passed on, to dropout, say.
    """
    for module in model.modules():
        kind: Any = type(module)  # hashable, which its type does not say
        if _names_training(kind) and _holds_tensors(module):
            return True
    return False


def _holds_tensors(module: nn.Module) -> bool:
    return any(True for _ in module.parameters()) or any(True for _ in module.buffers())


@cache
def _names_training(kind: type[nn.Module]) -> bool:
    for base in kind.__mro__:
        if base is object or base.__module__.startswith("torch.nn."):
            continue
        if any("training" in names for member in vars(base).values() for names in _names(member)):
            return True
    return False


def _names(member: Any) -> Iterator[tuple[str, ...]]:
    """The names in the code of a method, of those that it wraps and of functions inside."""
    for accessor in ("__func__", "fget", "__wrapped__"):  # class methods, properties, decorators
        inner = getattr(member, accessor, None)
        if inner is not None:
            yield from _names(inner)
    code = getattr(member, "__code__", None)
    codes = [code] if isinstance(code, CodeType) else []
    while codes:
        code = codes.pop()
        yield code.co_names
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
