"""Continual learning: a master network that grows with every task and never forgets one."""

from fxgrow.continual.expansion import Expanded, Expansion, TwoSteps
from fxgrow.continual.learning import MasterSettings
from fxgrow.continual.master import Master
from fxgrow.continual.outcome import Outcome, WidthUse
from fxgrow.continual.settings import Loader, TrainSettings
from fxgrow.continual.task import Task, deal

__all__ = [
    "Expanded",
    "Expansion",
    "Loader",
    "Master",
    "MasterSettings",
    "Outcome",
    "Task",
    "TrainSettings",
    "TwoSteps",
    "WidthUse",
    "deal",
]
