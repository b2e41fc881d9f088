"""The growth pipeline, ignorant of which method runs."""

from fxgrow.growth.budget import Budget, Purse, open_purse
from fxgrow.growth.emit import Filling, emit
from fxgrow.growth.meters import UNITS
from fxgrow.growth.method import Choose, Method, Neighbourhood, Scores
from fxgrow.growth.objective import Batch, Loss, Objective
from fxgrow.growth.plan import Plan, PlanRow, Spending
from fxgrow.growth.result import Growth, GrowthReport
from fxgrow.growth.scope import EVERYTHING, Scope
from fxgrow.growth.select import Selection, select
from fxgrow.growth.step import grow_step
from fxgrow.growth.widen import Widened, widen

__all__ = [
    "EVERYTHING",
    "UNITS",
    "Batch",
    "Budget",
    "Choose",
    "Filling",
    "Growth",
    "GrowthReport",
    "Loss",
    "Method",
    "Neighbourhood",
    "Objective",
    "Plan",
    "PlanRow",
    "Purse",
    "Scope",
    "Scores",
    "Selection",
    "Spending",
    "Widened",
    "emit",
    "grow_step",
    "open_purse",
    "select",
    "widen",
]
