"""The growth pipeline, ignorant of which method runs."""

from fxgrow.growth.budget import Budget, Selection, select
from fxgrow.growth.emit import Filling, emit
from fxgrow.growth.method import Choose, Method, Neighbourhood, Scores
from fxgrow.growth.objective import Batch, Loss, Objective
from fxgrow.growth.result import Growth, GrowthReport
from fxgrow.growth.step import grow_step
from fxgrow.growth.widen import Widened, widen

__all__ = [
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
    "Scores",
    "Selection",
    "Widened",
    "emit",
    "grow_step",
    "select",
    "widen",
]
