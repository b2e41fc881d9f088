"""Old spellings of public names keep working for one version, with a ``DeprecationWarning``."""

import functools
import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def renamed_attributes(module: str, new_names: Mapping[str, str]) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a module whose public names have changed.

    Args:
        module: ``__name__`` of the module.
        new_names: per old name the new one: a name in the same module, or ``package:name``.

    Returns:
        A function that gives the renamed object and warns; it raises ``AttributeError`` for names
        that never existed.

    Example:
        >>> __getattr__ = renamed_attributes(__name__, {"Neighbourhood": "Proposal"})
    """

    def attribute(name: str) -> Any:
        if name not in new_names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        package, _, new_name = new_names[name].rpartition(":")
        package = package or module
        warnings.warn(
            f"{module}.{name} is {package}.{new_name} now; the old name goes with the next version",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(importlib.import_module(package), new_name)

    return attribute


def renamed_arguments(
    **new_names: str,
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Let a function take keyword arguments under their old names too.

    Args:
        new_names: per old name the new one.

    Returns:
        A decorator. Calls with an old name warn; with both names they are a ``TypeError``.

    Example:
        >>> @renamed_arguments(loss="loss_fn")
        ... def grow(model, batches, loss_fn): ...
    """

    def decorate(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        @functools.wraps(function)
        def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            for old, new in new_names.items():
                if old not in kwargs:
                    continue
                if new in kwargs:
                    raise TypeError(f"{function.__name__}() got both {old!r} and {new!r}")
                warnings.warn(
                    f"{old}= of {function.__name__}() is {new}= now; the old name goes with the "
                    "next version",
                    DeprecationWarning,
                    stacklevel=2,
                )
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return wrapper

    return decorate
