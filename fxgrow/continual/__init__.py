"""Continual learning: a master network that grows with every task and never forgets one."""

from fxgrow.continual.expansion import ExpandedNetwork, Expansion, ScoredExpansion
from fxgrow.continual.master import Master
from fxgrow.continual.outcome import TaskOutcome, WidthUse
from fxgrow.continual.registry import STRATEGIES, StrategySetup
from fxgrow.continual.result import ContinualResult, StreamPlan, read_continual
from fxgrow.continual.run import check_out, run_stream
from fxgrow.continual.settings import Loader, TrainSettings
from fxgrow.continual.storage import load_master, save_master
from fxgrow.continual.strategy import Strategy, TaskStats
from fxgrow.continual.task import Task, split_classes
from fxgrow.continual.task_training import MasterSettings
from fxgrow.deprecation import renamed_attributes

__all__ = [
    "STRATEGIES",
    "ContinualResult",
    "ExpandedNetwork",
    "Expansion",
    "Loader",
    "Master",
    "MasterSettings",
    "ScoredExpansion",
    "Strategy",
    "StrategySetup",
    "StreamPlan",
    "Task",
    "TaskOutcome",
    "TaskStats",
    "TrainSettings",
    "WidthUse",
    "check_out",
    "load_master",
    "read_continual",
    "run_stream",
    "save_master",
    "split_classes",
]

# Old names, which go with the next version.
__getattr__ = renamed_attributes(
    __name__,
    {
        "Expanded": "ExpandedNetwork",
        "Outcome": "TaskOutcome",
        "TwoSteps": "ScoredExpansion",
        "deal": "split_classes",
    },
)
