"""fxgrow: a graph-rewriting compiler that makes neural networks grow."""

from fxgrow.api import grow, save
from fxgrow.capture import Captured, capture
from fxgrow.coupling import couple
from fxgrow.errors import (
    BudgetError,
    DataError,
    ExportError,
    FxgrowError,
    GrowthError,
    ModelError,
    Refusal,
    SpecError,
)
from fxgrow.export import export
from fxgrow.growth import Budget, Growth, widen
from fxgrow.lowering import lower
from fxgrow.methods import Firefly, RandomGrowth
from fxgrow.spec import ArchitectureSpec, diff, load

__all__ = [
    "ArchitectureSpec",
    "Budget",
    "BudgetError",
    "Captured",
    "DataError",
    "ExportError",
    "Firefly",
    "FxgrowError",
    "Growth",
    "GrowthError",
    "ModelError",
    "RandomGrowth",
    "Refusal",
    "SpecError",
    "capture",
    "couple",
    "diff",
    "export",
    "grow",
    "load",
    "lower",
    "save",
    "widen",
]
