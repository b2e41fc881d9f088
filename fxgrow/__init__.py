"""fxgrow: a graph-rewriting compiler that makes neural networks grow."""

import importlib
from typing import TYPE_CHECKING, Any

from fxgrow.api import grow, save
from fxgrow.capture import Captured, capture
from fxgrow.coupling import Coupling, Width, couple, register_rule
from fxgrow.errors import (
    ArgumentError,
    BudgetError,
    DataError,
    ExportError,
    FxgrowError,
    GrowthError,
    InternalError,
    ModelError,
    Refusal,
    RunError,
    SpecError,
    TrainingError,
)
from fxgrow.export import export
from fxgrow.growth import (
    BatchLoss,
    Budget,
    Deepened,
    Expanded,
    Growth,
    GrowthReport,
    Method,
    Scope,
    Widened,
    deepen,
    grow_to,
    widen,
)
from fxgrow.lowering import lower
from fxgrow.methods import Auto, Firefly, RandomGrowth, Splitting, ZeroOutgoing
from fxgrow.spec import ArchitectureSpec, SpecDiff, diff, load
from fxgrow.surgery import NewEntryRate, follow_ages
from fxgrow.version import __version__

if TYPE_CHECKING:
    from fxgrow.training import Grower

__all__ = [
    "ArchitectureSpec",
    "ArgumentError",
    "Auto",
    "BatchLoss",
    "Budget",
    "BudgetError",
    "Captured",
    "Coupling",
    "DataError",
    "Deepened",
    "Expanded",
    "ExportError",
    "Firefly",
    "FxgrowError",
    "Grower",
    "Growth",
    "GrowthError",
    "GrowthReport",
    "InternalError",
    "Method",
    "ModelError",
    "NewEntryRate",
    "RandomGrowth",
    "Refusal",
    "RunError",
    "Scope",
    "SpecDiff",
    "SpecError",
    "Splitting",
    "TrainingError",
    "Widened",
    "Width",
    "ZeroOutgoing",
    "__version__",
    "capture",
    "couple",
    "deepen",
    "diff",
    "export",
    "follow_ages",
    "grow",
    "grow_to",
    "load",
    "lower",
    "register_rule",
    "save",
    "widen",
]

# Packages that are attributes of fxgrow but are imported only when somebody asks for them; those
# that the names above need are attributes anyway. ``fxgrow.export`` is the function.
_LAZY_PACKAGES = frozenset(
    {"cells", "cli", "continual", "data", "integrations", "report", "training"}
)


def __getattr__(name: str) -> Any:
    """Import a package on first use, so that ``fxgrow.cells`` needs no import of its own."""
    if name == "Grower":  # needs the package ``training``, which most programs do not
        return importlib.import_module("fxgrow.training").Grower
    if name in _LAZY_PACKAGES:
        return importlib.import_module(f"fxgrow.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What ``dir(fxgrow)`` lists: the public names, and the packages that are not imported yet."""
    return sorted({*globals(), *__all__, *_LAZY_PACKAGES})
