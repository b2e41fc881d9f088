"""Listeners that write what a run measures to a file or a tracker, one kind per file."""

from fxgrow.training.listeners.csv_log import CsvLog
from fxgrow.training.listeners.jsonl_log import JsonlLog
from fxgrow.training.listeners.mlflow_log import MlflowLog
from fxgrow.training.listeners.registry import LOGGERS, LoggerEntry, LogPlace
from fxgrow.training.listeners.tensorboard_log import TensorBoardLog
from fxgrow.training.listeners.trackio_log import TrackioLog
from fxgrow.training.listeners.wandb_log import WandbLog

__all__ = [
    "LOGGERS",
    "CsvLog",
    "JsonlLog",
    "LogPlace",
    "LoggerEntry",
    "MlflowLog",
    "TensorBoardLog",
    "TrackioLog",
    "WandbLog",
]
