"""The growth methods by name: those of fxgrow, and those of other installed packages.

A package adds a method without a change to fxgrow: it declares the class as an entry point of the
group ``fxgrow.methods``, under the name of the class, which is what the history in a spec records::

    [project.entry-points."fxgrow.methods"]
    MyGrowth = "my_package.my_module:MyGrowth"

The class is a frozen pydantic model with the three methods of ``fxgrow.growth.Method``. A package's
code is imported when its method is asked for by name, and not before. The names of fxgrow's own
methods cannot be taken.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from fxgrow.argument_checks import checked
from fxgrow.documents import limits
from fxgrow.errors import GrowthError
from fxgrow.methods.auto import Auto
from fxgrow.methods.autogrow import AutoGrow
from fxgrow.methods.fast_splitting import FastSplitting
from fxgrow.methods.firefly import Firefly
from fxgrow.methods.gradmax import GradMax
from fxgrow.methods.nash import NASH
from fxgrow.methods.net2deeper import Net2Deeper
from fxgrow.methods.net2wider import Net2Wider
from fxgrow.methods.network_morphism import NetworkMorphism
from fxgrow.methods.pool import GradientPool
from fxgrow.methods.random import RandomGrowth
from fxgrow.methods.splitting import Splitting
from fxgrow.methods.tiny import TINY
from fxgrow.methods.variance_transfer import VarianceTransfer
from fxgrow.methods.zero_outgoing import ZeroOutgoing

ENTRY_POINT_GROUP = "fxgrow.methods"

METHODS: Mapping[str, type[Any]] = MappingProxyType(
    {
        "Auto": Auto,
        "AutoGrow": AutoGrow,
        "FastSplitting": FastSplitting,
        "Firefly": Firefly,
        "GradMax": GradMax,
        "GradientPool": GradientPool,
        "NASH": NASH,
        "Net2Deeper": Net2Deeper,
        "Net2Wider": Net2Wider,
        "NetworkMorphism": NetworkMorphism,
        "RandomGrowth": RandomGrowth,
        "Splitting": Splitting,
        "TINY": TINY,
        "VarianceTransfer": VarianceTransfer,
        "ZeroOutgoing": ZeroOutgoing,
    }
)
"""The methods of fxgrow itself."""

# What a growth calls (``fxgrow.growth.Method``), besides pydantic's own model_dump.
_CALLED = ("propose", "search", "refine")
# What an import raises when a module or class is missing, or its code is wrong; pydantic's error
# for a wrong model is a RuntimeError.
_IMPORT_ERRORS = (
    ImportError,
    AttributeError,
    SyntaxError,
    NameError,
    TypeError,
    ValueError,
    LookupError,
    RuntimeError,
    OSError,
)


def available_methods() -> Mapping[str, str]:
    """List all methods that ``find_method`` can be asked for, without importing any of them.

    Returns:
        Name -> where the class is, as ``module:class``; fxgrow's own methods first, then those of
        installed packages by name.

    Example:
        >>> list(available_methods())[:3]
        ['Auto', 'AutoGrow', 'FastSplitting']
    """
    places = {
        name: f"{method.__module__}:{method.__qualname__}" for name, method in METHODS.items()
    }
    for entry_point in sorted(_entry_points()):
        places.setdefault(entry_point.name, entry_point.value)
    return MappingProxyType(places)


@checked
def find_method(name: str) -> type[Any]:
    """Return the class of a growth method by its name, importing it if a package declares it.

    Args:
        name: one of ``available_methods()``, with exactly its letters.

    Returns:
        A pydantic model class; called with its settings it gives a ``fxgrow.growth.Method``.

    Raises:
        GrowthError: ``unknown-method`` if there is none of that name; ``bad-method`` if two
            packages declare different ones, or if what is declared cannot be imported, is not a
            pydantic model, or lacks propose, search or refine.

    Example:
        >>> find_method("RandomGrowth")(draws=1)
        RandomGrowth(split=True, new=None, eps=0.1, draws=1)
    """
    if name in METHODS:
        return METHODS[name]
    entry_point = _entry_point(name)
    method: type[Any] = _load(entry_point)
    problem = _problem_of(method)
    if problem is not None:
        raise GrowthError(
            "bad-method",
            f"the growth method {_described(entry_point)} {problem}, so it cannot grow anything; "
            "correct the package, or choose another method",
        )
    return method


def _entry_points() -> list[EntryPoint]:
    """The entry points of installed packages.

    ``python -m`` looks for modules in the current directory first. What lies there may be
    anybody's (a recipe names methods, and people share recipes), so it declares no method.
    """
    here = Path.cwd()
    installed: list[EntryPoint] = []
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        distribution = entry_point.dist
        if distribution is None or Path(str(distribution.locate_file(""))).resolve() != here:
            installed.append(entry_point)
    return installed


def _entry_point(name: str) -> EntryPoint:
    """Return the entry point of that name, the only one."""
    declared = [one for one in _entry_points() if one.name == name]
    by_value = {entry_point.value: entry_point for entry_point in declared}
    if not by_value:
        raise _unknown_method(name)
    if len(by_value) > 1:
        places = " and ".join(sorted(by_value))
        raise GrowthError(
            "bad-method",
            f"the growth method {name!r} is declared more than once ({places}), so it is not clear "
            "which one is meant; uninstall one of the packages",
        )
    (entry_point,) = by_value.values()
    return entry_point


def _load(entry_point: EntryPoint) -> Any:
    try:
        return entry_point.load()
    except _IMPORT_ERRORS as error:
        reason = " ".join(str(error).split())[: limits.MESSAGE] or type(error).__name__
        raise GrowthError(
            "bad-method",
            f"the growth method {_described(entry_point)} cannot be imported ({reason}); "
            "correct the package, or choose another method",
        ) from error


def _problem_of(method: Any) -> str | None:
    """Return why a loaded object is no growth method, as the rest of a sentence, or None."""
    if not isinstance(method, type) or not issubclass(method, BaseModel):
        return "is not a pydantic model class"
    missing = [name for name in _CALLED if not callable(getattr(method, name, None))]
    if missing:
        return f"has no {' and no '.join(missing)}"
    return None


def _described(entry_point: EntryPoint) -> str:
    """Name a method, where it is, and the package that declares it."""
    package = entry_point.dist.name if entry_point.dist is not None else "an unknown package"
    return f"{entry_point.name!r} ({entry_point.value}, of {package})"


def _unknown_method(name: str) -> GrowthError:
    names = list(available_methods())
    # The name may come from a file, and be of any length.
    name = name[: limits.MESSAGE]
    closest = get_close_matches(name, names, n=1, cutoff=0.0)[0]
    return GrowthError(
        "unknown-method",
        f"there is no growth method {name!r}; did you mean {closest!r}? "
        f"There are {', '.join(names)}",
    )
