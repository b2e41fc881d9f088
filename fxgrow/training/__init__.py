"""Training with growth in it (Wu et al. 2020, Algorithm 1), and the directory that a run writes."""

from fxgrow.deprecation import renamed_attributes
from fxgrow.randomness import seeded
from fxgrow.training.augmentation import Augmentation
from fxgrow.training.average import MovingAverage
from fxgrow.training.checkpoints import Checkpoints
from fxgrow.training.compiled import Compilation
from fxgrow.training.control import Control
from fxgrow.training.directory import (
    FOREIGN_TO_RUN,
    INITIAL,
    LOG,
    RESULT,
    SEARCHED,
    WrittenSpecs,
    read_result,
    run_directory,
    run_writing_errors,
    write_run,
)
from fxgrow.training.early_stop import EarlyStop
from fxgrow.training.epoch import train_epoch
from fxgrow.training.evaluate import (
    EVALUATION_BATCH,
    Evaluation,
    accuracy,
    cross_entropy,
    evaluate,
    logits,
)

# Used by fxgrow's other packages; not part of the public interface.
from fxgrow.training.evaluate import require_labels as require_labels
from fxgrow.training.evaluate import run_on_batch as run_on_batch
from fxgrow.training.events import (
    BatchDone,
    CheckpointSaved,
    EpochDone,
    Event,
    GrowthDone,
    GrowthPhase,
    GrowthSkipped,
    GrowthStarted,
    Listener,
    RunEnded,
    RunResumed,
    RunStarted,
    RunStopped,
    StoppedEarly,
)
from fxgrow.training.grower import Grower
from fxgrow.training.grower_state import regrow_from_state
from fxgrow.training.history import Measurement, Promise, Spectrum, TrainingHistory
from fxgrow.training.listeners import LOGGERS as LOGGERS
from fxgrow.training.listeners import (
    CsvLog,
    JsonlLog,
    MlflowLog,
    TensorBoardLog,
    TrackioLog,
    WandbLog,
)
from fxgrow.training.listeners import LoggerEntry as LoggerEntry
from fxgrow.training.listeners import LogPlace as LogPlace
from fxgrow.training.log_rows import EndRow as EndRow
from fxgrow.training.log_rows import EpochRow as EpochRow
from fxgrow.training.log_rows import GrowthRow as GrowthRow
from fxgrow.training.log_rows import LogRow as LogRow
from fxgrow.training.log_rows import SkippedRow as SkippedRow
from fxgrow.training.log_rows import StartRow as StartRow
from fxgrow.training.log_rows import StoppedRow as StoppedRow
from fxgrow.training.log_rows import read_log
from fxgrow.training.optimizers import RUN_OPTIMIZERS as RUN_OPTIMIZERS
from fxgrow.training.optimizers import AdamWSettings, SGDSettings
from fxgrow.training.recipe import (
    RECIPE_VERSION,
    DataChoice,
    Recipe,
    read_recipe,
    recipe_text,
)
from fxgrow.training.recipe_changes import changed_recipe as changed_recipe
from fxgrow.training.result import RunResult, run_result
from fxgrow.training.run import Run, train_and_grow
from fxgrow.training.schedules import SCHEDULES as SCHEDULES
from fxgrow.training.schedules import ConstantRate, CosineRate, StepRate
from fxgrow.training.settings import RunSettings
from fxgrow.training.sgd import (
    WeightTraining,
    cosine_rate,
    endless,
    set_rate,
    sgd_step,
    shuffled,
    training_batches,
)
from fxgrow.training.sharded_checkpoint import load_sharded, read_sharded_state, save_sharded
from fxgrow.training.step_memory import require_step_memory as require_step_memory
from fxgrow.training.step_result import StepRecord, StepResult
from fxgrow.training.triggers import (
    TRIGGERS,
    AtEpochs,
    AtSteps,
    ByPromise,
    EqualPhases,
    EveryEpochs,
    OnFullRank,
    OnPlateau,
    Trigger,
    UntilNoGain,
)

# Used by fxgrow's other packages; not part of the public interface.
from fxgrow.training.unfinished import RunNotes as RunNotes
from fxgrow.training.unfinished import UnfinishedRun as UnfinishedRun
from fxgrow.training.unfinished import find_log as find_log
from fxgrow.training.unfinished import followed_run as followed_run
from fxgrow.training.unfinished import new_run as new_run
from fxgrow.training.unfinished import resume_command as resume_command
from fxgrow.training.unfinished import stopped_run as stopped_run

__all__ = [
    "EVALUATION_BATCH",
    "FOREIGN_TO_RUN",
    "INITIAL",
    "LOG",
    "RECIPE_VERSION",
    "RESULT",
    "SEARCHED",
    "TRIGGERS",
    "AdamWSettings",
    "AtEpochs",
    "AtSteps",
    "Augmentation",
    "BatchDone",
    "ByPromise",
    "CheckpointSaved",
    "Checkpoints",
    "Compilation",
    "ConstantRate",
    "Control",
    "CosineRate",
    "CsvLog",
    "DataChoice",
    "EarlyStop",
    "EpochDone",
    "EqualPhases",
    "Evaluation",
    "Event",
    "EveryEpochs",
    "Grower",
    "GrowthDone",
    "GrowthPhase",
    "GrowthSkipped",
    "GrowthStarted",
    "JsonlLog",
    "Listener",
    "Measurement",
    "MlflowLog",
    "MovingAverage",
    "OnFullRank",
    "OnPlateau",
    "Promise",
    "Recipe",
    "Run",
    "RunEnded",
    "RunResult",
    "RunResumed",
    "RunSettings",
    "RunStarted",
    "RunStopped",
    "SGDSettings",
    "Spectrum",
    "StepRate",
    "StepRecord",
    "StepResult",
    "StoppedEarly",
    "TensorBoardLog",
    "TrackioLog",
    "TrainingHistory",
    "Trigger",
    "UntilNoGain",
    "WandbLog",
    "WeightTraining",
    "WrittenSpecs",
    "accuracy",
    "cosine_rate",
    "cross_entropy",
    "endless",
    "evaluate",
    "load_sharded",
    "logits",
    "read_log",
    "read_recipe",
    "read_result",
    "read_sharded_state",
    "recipe_text",
    "regrow_from_state",
    "run_directory",
    "run_result",
    "run_writing_errors",
    "save_sharded",
    "seeded",
    "set_rate",
    "sgd_step",
    "shuffled",
    "train_and_grow",
    "train_epoch",
    "training_batches",
    "write_run",
]

# Old names, which go with the next version.
__getattr__ = renamed_attributes(
    __name__,
    {
        "Log": "JsonlLog",
        "Result": "RunResult",
        "Written": "WrittenSpecs",
        "result_of": "run_result",
    },
)
