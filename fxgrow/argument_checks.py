"""Checks of arguments by their types, before any work is spent.

Type checkers see most of these mistakes; notebooks do not run them.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from fxgrow.errors import FxgrowError, GrowthError, ModelError

_SHOWN = 80
"""Characters of a wrong value that a message repeats."""
_PLAIN_TYPES = (str, bool, int, float, bytes, type(None))
SEEDS = range(2**63)
"""What torch and Python both take as a seed."""


def shown(value: Any) -> str:
    """A wrong value as a message repeats it: short, and without running its own code."""
    if not isinstance(value, _PLAIN_TYPES):
        return f"a {type(value).__name__}"
    try:
        return repr(value)[:_SHOWN]
    except ValueError:  # Python refuses to write out integers of thousands of digits
        return "a number of very many digits"


def is_whole(value: Any) -> bool:
    """Whether a value is an integer; True and False are none here."""
    return isinstance(value, int) and not isinstance(value, bool)


def require_type(
    name: str,
    value: Any,
    kinds: type | tuple[type, ...],
    fix: str,
    error: type[FxgrowError] = GrowthError,
) -> None:
    """Check that an argument is of a type.

    Args:
        name: of the argument.
        value: what was given.
        kinds: the types that it may have.
        fix: what to give, for the message.
        error: the class of the error.

    Raises:
        FxgrowError: ``bad-argument``, as ``error``.

    """
    if not isinstance(value, kinds):
        raise error("bad-argument", f"{name} is {shown(value)}, which cannot be used; give {fix}")


def require_model(model: Any, name: str = "model") -> None:
    """Check that an argument is a module and not, say, its class.

    Raises:
        ModelError: ``not-a-model``.

    """
    if not isinstance(model, nn.Module):
        raise ModelError(
            "not-a-model", f"{name} is {shown(model)}, which has no layers; give a torch.nn.Module"
        )


def require_flags(error: type[FxgrowError] = GrowthError, **flags: Any) -> None:
    """Check that arguments are True or False: a word such as ``"no"`` would count as True.

    Raises:
        FxgrowError: ``bad-argument``, as ``error``.

    """
    for name, value in flags.items():
        require_type(name, value, bool, "True or False", error)


def require_seed(seed: Any) -> None:
    """Check that random numbers can be drawn from a seed.

    Raises:
        GrowthError: ``bad-argument``.

    """
    if not is_whole(seed) or seed not in SEEDS:
        raise GrowthError(
            "bad-argument",
            f"seed is {shown(seed)}, from which nothing can be drawn; give a whole number from 0 "
            f"to {SEEDS[-1]}",
        )


def require_texts(name: str, value: Any, error: type[FxgrowError] = GrowthError) -> None:
    """Check that an argument holds texts and is not one: its letters would count as patterns.

    Raises:
        FxgrowError: ``bad-argument``, as ``error``.

    """
    is_list = isinstance(value, (Sequence, set, frozenset)) and not isinstance(value, (str, bytes))
    wrong = [value] if not is_list else [item for item in value if not isinstance(item, str)]
    if wrong:
        raise error(
            "bad-argument",
            f"{name} holds {shown(wrong[0])}, which is no list of texts; give a list such as "
            "['layer1.*']",
        )


def require_path(name: str, value: Any, error: type[FxgrowError]) -> None:
    """Check that an argument can name a file or directory.

    Raises:
        FxgrowError: ``bad-argument``, as ``error``.

    """
    require_type(name, value, (str, os.PathLike), "a path, as a text or pathlib.Path", error)
    if "\0" in os.fspath(value):
        raise error("bad-argument", f"{name} holds a zero character, which no path can; remove it")


def require_amounts(amounts: Any, error: type[FxgrowError]) -> None:
    """Check that an argument gives a whole number per name.

    Raises:
        FxgrowError: ``bad-budget``, as ``error``.

    """
    require_type("amounts", amounts, Mapping, "a dict such as {'layer1.conv1': 4}", error)
    for name, count in amounts.items():
        if not isinstance(name, str) or not is_whole(count):
            raise error(
                "bad-budget",
                f"amounts holds {shown(name)}: {shown(count)}, which adds no countable neurons; "
                "give names of widths and whole numbers",
            )
