"""Training with growth in it: Wu et al. 2020, Algorithm 1, and the directory that a run leaves behind."""

from fxgrow.randomness import seeded
from fxgrow.training.directory import Written, read_result, run_directory, write_run
from fxgrow.training.epoch import train_epoch
from fxgrow.training.evaluate import Evaluation, accuracy, cross_entropy, evaluate, logits
from fxgrow.training.events import BatchDone, EpochDone, Event, GrowthDone, Listener, RunStarted, ignore
from fxgrow.training.log import Log
from fxgrow.training.recipe import DataChoice, FireflyMethod, Recipe, read_recipe, recipe_text
from fxgrow.training.result import Result, StepResult, result_of
from fxgrow.training.run import Run, train_and_grow
from fxgrow.training.settings import RunSettings

__all__ = [
    "BatchDone",
    "DataChoice",
    "EpochDone",
    "Evaluation",
    "Event",
    "FireflyMethod",
    "GrowthDone",
    "Listener",
    "Log",
    "Recipe",
    "Result",
    "Run",
    "RunSettings",
    "RunStarted",
    "StepResult",
    "Written",
    "accuracy",
    "cross_entropy",
    "evaluate",
    "ignore",
    "logits",
    "read_recipe",
    "read_result",
    "recipe_text",
    "result_of",
    "run_directory",
    "seeded",
    "train_and_grow",
    "train_epoch",
    "write_run",
]
