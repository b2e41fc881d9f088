"""fxgrow: a graph-rewriting compiler that makes neural networks grow."""

from fxgrow.api import grow, save
from fxgrow.capture import Captured, capture
from fxgrow.coupling import couple
from fxgrow.errors import BudgetError, DataError, FxgrowError, GrowthError, ModelError, Refusal, SpecError
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
    "grow",
    "load",
    "lower",
    "save",
    "widen",
]
