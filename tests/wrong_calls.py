"""What ``test_wrong_calls.py`` calls: every public function and class with right arguments, and wrong ones.

``ROWS`` holds right arguments for every public function, class and method; a new one without a row fails the test.
"""

import contextlib
import importlib
import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow import cells, continual, data, growth, lowering, methods, report, spec, training
from fxgrow.cells import result as cell_results
from fxgrow.cells.cell import known_operation
from fxgrow.cells.template import OperationSite
from fxgrow.coupling.rules import pointwise
from fxgrow.data import DataSet, Splits, batches
from fxgrow.errors import FxgrowError, InternalError
from fxgrow.training import Control

# ``fxgrow.export`` is the function.
EXPORT = importlib.import_module("fxgrow.export")
PACKAGES = (fxgrow, cells, continual, training, EXPORT, methods, data, lowering)
DOCUMENTED = {
    "spec": (spec, ("describe", "save", "read_spec")), "report": (report, ("diff_page",)),
    "growth": (growth, ("Proposal", "Scores")),
}  # fmt: skip
"""What the documentation calls of packages that fxgrow's own code calls, otherwise."""
CLASSES = 4


class Convolutional(nn.Module):
    """A classifier of small images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.fc = nn.Linear(2, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.conv(x)).relu().mean((2, 3)))


class Block(nn.Module):
    """A residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class Stack(nn.Module):
    """A classifier with a list of residual blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.fc = nn.Sequential(Block()), nn.Linear(3, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(x).mean((2, 3)))


def images(count: int = 8) -> DataSet:
    generator = torch.Generator().manual_seed(0)
    return DataSet(torch.randn(count, 3, 6, 6, generator=generator), torch.arange(count) % CLASSES)


@dataclass(frozen=True)
class Right:
    """Right arguments, of which the expensive ones are made once."""

    directory: Path
    masters: list[continual.Master] = field(default_factory=list)

    @cached_property
    def model(self) -> nn.Module:
        return Convolutional().eval()

    @cached_property
    def stack(self) -> nn.Module:
        return Stack().eval()

    @cached_property
    def expanded(self) -> fxgrow.Expanded:
        return fxgrow.grow_to(self.model, self.widened.module, self.inputs)

    @cached_property
    def deepened(self) -> fxgrow.Deepened:
        return fxgrow.deepen(self.stack, {"blocks": 1}, self.inputs)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return (images().images[:2],)

    @property
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        return list(batches(images(4), 4))

    @cached_property
    def growth(self) -> fxgrow.Growth:
        method = fxgrow.Firefly(new=1, steps=1, refine_steps=0)
        return fxgrow.grow(self.model, self.batches, nn.functional.cross_entropy, method=method)

    @cached_property
    def saved(self) -> Path:
        fxgrow.save(self.growth, self.directory / "saved")
        return self.directory / "saved"

    @cached_property
    def loaded(self) -> nn.Module:
        return fxgrow.load(self.saved)

    @cached_property
    def spec(self) -> fxgrow.ArchitectureSpec:
        return spec.spec_of(self.loaded)

    @cached_property
    def captured(self) -> fxgrow.Captured:
        return fxgrow.capture(self.model, self.inputs)

    @cached_property
    def coupling(self) -> fxgrow.Coupling:
        return fxgrow.couple(self.model, self.inputs)

    @cached_property
    def widened(self) -> fxgrow.Widened:
        return fxgrow.widen(self.model, {"conv": 1}, self.inputs)

    @cached_property
    def difference(self) -> fxgrow.SpecDiff:
        return fxgrow.diff(self.spec, self.spec)

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.fresh.parameters(), lr=0.1)

    @property
    def fresh(self) -> nn.Module:
        return Convolutional()

    @property
    def splits(self) -> Splits:
        return Splits("tiny", images(16), images(8), CLASSES, (0.0,) * 3, (1.0,) * 3)

    @property
    def settings(self) -> training.RunSettings:
        return training.RunSettings(epochs=1, grow_steps=0)

    @property
    def grower_arguments(self) -> dict[str, Any]:
        model = Convolutional()
        return {
            "model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
            "loss_fn": nn.functional.cross_entropy, "when": training.AtEpochs(epochs=(9,)), "method": None, "budget": None,
            "example_inputs": None, "inplace": True, "schedulers": (), "state": "reset", "new_entry_rate": None,
            "seed": 0, "scope": fxgrow.Scope(), "memory_limit": None, "grow_frozen": False, "accept_no_gain": True,
            "epochs": 9, "grow_steps": 2, "listeners": (print_nothing,),
        }  # fmt: skip

    @property
    def grower(self) -> training.Grower:
        return training.Grower(**self.grower_arguments)

    @cached_property
    def run(self) -> training.Run:
        return training.train_and_grow(
            self.model, self.splits, self.settings, example_inputs=self.inputs, method=fxgrow.Firefly(),
            budget=fxgrow.Budget(neurons=1),
        )  # fmt: skip

    @cached_property
    def result(self) -> training.RunResult:
        return training.run_result(self.run, self.settings, model="net", data="tiny")

    @property
    def recipe(self) -> training.Recipe:
        return training.Recipe(
            schema_version=2, model="timm:resnet10t", budget=fxgrow.Budget(neurons=1)
        )

    @cached_property
    def recipe_file(self) -> Path:
        path = self.directory / "recipe.yaml"
        path.write_text(training.recipe_text(self.recipe))
        return path

    @cached_property
    def genotype_file(self) -> Path:
        path = self.directory / "cells.json"
        path.write_text(cells.genotype_text(self.genotype))
        return path

    @property
    def genotype(self) -> cells.Genotype:
        return cells.GENOTYPES["DARTS_V2"]

    @cached_property
    def search(self) -> cells.SearchResult:
        grown = cell_results.GrowthRecord(
            epoch=0, channels={f"{kind} 2<-0 sep_conv_3x3": 2 for kind in cells.CellKind}
        )
        return cells.SearchResult(
            method="FireflySearch", settings={}, space=cells.SearchSpace(), seed=0, genotype=self.genotype,
            seconds=1.0, cpu_seconds=1.0, multiply_adds=1, grown=(grown,),
        )  # fmt: skip

    @cached_property
    def search_file(self) -> Path:
        path = self.directory / "search.json"
        path.write_text(self.search.model_dump_json())
        return path

    @property
    def position(self) -> cells.CellPosition:
        return cells.cell_positions(3, 2, 4, 4)[0]

    @property
    def task(self) -> continual.Task:
        return continual.Task("1", images(), images(), images(), CLASSES)

    @property
    def master_settings(self) -> continual.MasterSettings:
        return continual.MasterSettings(train=continual.TrainSettings(epochs=1, batch_size=4))

    @property
    def master(self) -> continual.Master:
        return continual.Master(self.model, self.inputs, settings=self.master_settings)

    @property
    def unlearned(self) -> continual.Master:
        """A master network without tasks, which is made anew only when one was learned."""
        if not self.masters or self.masters[-1].tasks:
            self.masters.append(self.master)
        return self.masters[-1]

    @cached_property
    def learned(self) -> continual.Master:
        master = self.master
        master.learn("1", self.batches, self.batches, classes=CLASSES)
        return master

    @cached_property
    def master_directory(self) -> Path:
        continual.save_master(self.learned, self.directory / "master")
        return self.directory / "master"

    @cached_property
    def outcome(self) -> continual.TaskOutcome:
        return continual.TaskOutcome(
            task="1",
            classes=2,
            accuracy=0.5,
            widths={},
            parameters=1,
            network_parameters=1,
            multiply_adds=1,
        )

    @property
    def plan(self) -> continual.StreamPlan:
        return continual.StreamPlan(width=1, blocks=(1,), settings=self.master_settings)

    @property
    def continual_result(self) -> continual.ContinualResult:
        return continual.ContinualResult(
            schema_version=1,
            plan=self.plan,
            labels=((0, 1),),
            outcomes=(self.outcome,),
            accuracies=((0.5,),),
        )

    @cached_property
    def continual_directory(self) -> Path:
        (self.directory / "stream").mkdir()
        (self.directory / "stream" / "result.json").write_text(
            self.continual_result.model_dump_json()
        )
        return self.directory / "stream"

    @cached_property
    def run_directory(self) -> Path:
        (self.directory / "run").mkdir()
        (self.directory / "run" / "result.json").write_text(self.result.model_dump_json())
        return self.directory / "run"

    @cached_property
    def log_file(self) -> Path:
        (self.directory / "log.jsonl").write_text("")
        return self.directory / "log.jsonl"

    @property
    def new_path(self) -> Path:
        """A path where nothing lies."""
        return self.directory / f"new{len(list(self.directory.iterdir()))}"


def tiny_search(right: Right) -> dict[str, Any]:
    space = cells.SearchSpace(operations=("sep_conv_3x3",), nodes=1, cells=3, channels=2)
    return {
        "space": space,
        "train": images(),
        "valid": images(),
        "seed": 0,
        "callback": print_nothing,
    }


def print_nothing(*values: object) -> None:
    """Do nothing."""


def batch_loss(model: Any, batch: Any) -> Tensor:
    """The loss of a batch, by a call of the model."""
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def dumped(model: Any) -> dict[str, Any]:
    """The fields of a settings object, as arguments."""
    return {name: getattr(model, name) for name in type(model).model_fields}


def fields_of(record: Any) -> dict[str, Any]:
    """The fields of a dataclass, as arguments."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


Row = Callable[[Right], Mapping[str, Any]]

HISTORY = training.TrainingHistory((training.Measurement(1, 9, 2.0, validation_accuracy=0.5),))

# fmt: off
ROWS: Mapping[str, Row] = {
    # fxgrow
    "grow": lambda r: {
        "model": r.model, "batches": r.batches, "loss_fn": nn.functional.cross_entropy, "example_inputs": r.inputs,
        "method": fxgrow.RandomGrowth(split=False, new=1, draws=1), "budget": fxgrow.Budget(neurons=1),
        "optimizer": None, "seed": 0, "history": (), "inplace": False, "memory_limit": None, "tie": (), "only": (),
        "ignore": (), "examples": (), "grow_frozen": False, "refresh_statistics": True,
        "accept_no_gain": False, "layers": (),
        "state": "padded", "new_entry_rate": None,
    },
    "follow_ages": lambda r: {"optimizer": r.optimizer},
    "BatchLoss": lambda r: {"fn": batch_loss},
    "save": lambda r: {"growth_or_model": r.growth, "directory": r.new_path, "example_inputs": None},
    "load": lambda r: {"directory": r.saved, "trust": frozenset()},
    "capture": lambda r: {"model": r.model, "example_inputs": r.inputs},
    "couple": lambda r: {"model_or_captured": r.model, "example_inputs": r.inputs, "examples": (), "ignore": (),
        "only": (), "frozen": (),
    },
    "Coupling.widths_along": lambda r: {"self": r.coupling, "parameter": "conv.weight", "axis": 0},
    "diff": lambda r: {"a": r.spec, "b": r.spec},
    "export": lambda r: {
        "model": r.growth, "to": "dot", "path": r.new_path, "force": False, "options": None, "trust": frozenset(),
        "example_inputs": None,
    },
    "lower": lambda r: {"model": r.model, "example_inputs": r.inputs},
    "register_rule": lambda r: {"op": "aten::relu", "rule": pointwise, "replace": False},
    "grow_to": lambda r: {
        "model": r.model, "like": r.widened.module, "example_inputs": r.inputs, "seed": 0, "examples": (),
        "history": (),
    },
    "grow_classes": lambda r: {
        "model": r.model, "classes": 2, "example_inputs": r.inputs, "head": None, "how": "mean", "seed": 0,
        "inplace": False, "examples": (), "optimizer": None, "state": "reset", "new_entry_rate": None,
    },
    "grow_experts": lambda r: {
        "model": r.model, "times": 2, "example_inputs": r.inputs, "seed": 0, "inplace": False, "examples": (),
        "optimizer": None, "state": "reset", "new_entry_rate": None,
    },
    "upcycle": lambda r: {
        "model": nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)), "layers": {"0": 2}, "example_inputs": torch.zeros(2, 3),
        "top_k": 1, "seed": 0, "inplace": False, "examples": (), "optimizer": None,
    },
    "grow_vocabulary": lambda r: {
        "model": nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5)), "words": 2, "example_inputs": torch.zeros(1, 2).long(),
        "embedding": None, "output": None, "how": "mean", "seed": 0, "inplace": False, "examples": (), "optimizer": None,
        "state": "reset", "new_entry_rate": None,
    },
    "deepen": lambda r: {
        "model": r.stack, "blocks": {"blocks": 1}, "example_inputs": r.inputs, "how": "copied", "where": "end",
        "seed": 0, "inplace": False, "examples": (), "optimizer": None, "batches": r.batches,
        "loss_fn": nn.functional.cross_entropy, "budget": None, "history": (),
    },
    "widen": lambda r: {
        "model_or_captured": r.model, "amounts": {"conv": 1}, "example_inputs": r.inputs, "how": "split", "seed": 0,
        "inplace": False, "round_to": None, "examples": (), "optimizer": None, "state": "reset", "new_entry_rate": None,
        "history": (),
    },
    "ArchitectureSpec": lambda r: dumped(r.spec),
    "Auto": lambda r: {},
    "ZeroOutgoing": lambda r: {},
    "Budget": lambda r: dumped(fxgrow.Budget(neurons=1)),
    "Captured": lambda r: fields_of(r.captured),
    "Coupling": lambda r: fields_of(r.coupling),
    "Firefly": lambda r: dumped(fxgrow.Firefly()),
    "Growth": lambda r: fields_of(r.growth),
    "GrowthReport": lambda r: fields_of(r.growth.report),
    "RandomGrowth": lambda r: dumped(fxgrow.RandomGrowth()),
    "NewEntryRate": lambda r: dumped(fxgrow.NewEntryRate()),
    "Refusal": lambda r: {"code": "pinned", "reason": "it is", "nodes": ()},
    "Scope": lambda r: dumped(fxgrow.Scope()),
    "SpecDiff": lambda r: dumped(r.difference),
    "Splitting": lambda r: dumped(fxgrow.Splitting()),
    "Widened": lambda r: fields_of(r.widened),
    "Expanded": lambda r: fields_of(r.expanded),
    "Deepened": lambda r: fields_of(r.deepened),
    "Extended": lambda r: fields_of(fxgrow.grow_classes(r.model, 1, r.inputs)),
    "Width": lambda r: fields_of(r.coupling.widths[0]),
    # fxgrow.cells
    "AuxiliaryScores": lambda r: {"logits": torch.zeros(2, 2), "auxiliary": torch.zeros(2, 2)},
    "Cell": lambda r: dumped(r.genotype.normal),
    "CellModule": lambda r: {
        "cell": r.genotype.normal, "position": r.position, "choose": known_operation, "drop_path": 0.0,
    },
    "CellPosition": lambda r: fields_of(r.position),
    "CellPosition.stride": lambda r: {"self": r.position, "source": 0},
    "Derivation": lambda r: dumped(cells.Derivation()),
    "Derivation.derive": lambda r: {
        "self": cells.Derivation(), "initial": 2,
        "channels": {OperationSite(kind, 2, 0, "sep_conv_3x3"): 2 for kind in cells.CellKind},
    },
    "Edge": lambda r: {"operation": "skip_connect", "source": 0},
    "EvaluationNetwork": lambda r: {
        "genotype": r.genotype, "channels": 2, "layers": 1, "num_classes": 2, "auxiliary": False, "drop_path": 0.0,
        "choose": known_operation,
    },
    "FireflySearch": lambda r: dumped(cells.FireflySearch()),
    "FireflySearch.search": lambda r: {
        "self": cells.FireflySearch(epochs=1, batch_size=4, method=fxgrow.Firefly(new=1, steps=1)), **tiny_search(r),
    },
    "Genotype": lambda r: dumped(r.genotype),
    "GenotypeTuples": lambda r: cells.to_tuples(r.genotype)._asdict(),
    "SearchEpoch": lambda r: dumped(
        cells.SearchEpoch(epoch=1, train_loss=1.0, seconds=1.0, multiply_adds=1)
    ),
    "SearchResult": lambda r: dumped(r.search),
    "SearchSpace": lambda r: dumped(cells.SearchSpace()),
    "SearchSpace.incoming": lambda r: {"self": cells.SearchSpace(), "state": 2},
    "cell_positions": lambda r: {"layers": 3, "channels": 2, "normal_states": 4, "reduce_states": 4},
    "dag": lambda r: {"cell": r.genotype.normal},
    "derive_again": lambda r: {"result": r.search, "derivation": cells.Derivation()},
    "draw": lambda r: {
        "genotype": r.genotype, "path": r.new_path.with_suffix(".dot"), "channels": None, "force": False,
    },
    "drop_path": lambda r: {"images": torch.ones(2, 1, 1, 1), "probability": 0.5},
    "evaluation_network": lambda r: {
        "genotype": r.genotype, "channels": 2, "layers": 1, "num_classes": 2, "auxiliary": False, "drop_path": 0.0,
    },
    "find_genotype": lambda r: {"words": "DARTS_V2"},
    "from_text": lambda r: {"text": cells.to_text(r.genotype)},
    "from_tuples": lambda r: {"tuples": cells.to_tuples(r.genotype)},
    "genotype_text": lambda r: {"genotype": r.genotype},
    "layout": lambda r: {"layers": 3},
    "named_network": lambda r: {
        "genotype": "DARTS_V2", "channels": 2, "layers": 1, "num_classes": 2, "auxiliary": False, "drop_path": 0.0,
    },
    "read_genotype": lambda r: {"path": r.genotype_file},
    "read_search": lambda r: {"path": r.search_file},
    "to_text": lambda r: {"genotype": r.genotype},
    "to_tuples": lambda r: {"genotype": r.genotype},
    # fxgrow.continual
    "ContinualResult": lambda r: dumped(r.continual_result),
    "ExpandedNetwork": lambda r: {
        "network": r.model, "unlocked": {}, "new": {}, "loss_before": None, "loss_after": None,
    },
    "Master": lambda r: {
        "model": r.model, "example_inputs": r.inputs, "head": None, "expansion": None, "settings": None,
    },
    "Master.learn": lambda r: {
        "self": r.unlearned, "task": "1", "train": r.batches, "valid": r.batches, "classes": CLASSES,
        "loss": training.cross_entropy, "budget": fxgrow.Budget(neurons=1), "target": None, "seed": 0,
    },
    "Master.network": lambda r: {"self": r.learned, "task": "1"},
    "Master.to": lambda r: {"self": r.learned, "device": "cpu"},
    "MasterSettings": lambda r: dumped(r.master_settings),
    "ScoredExpansion": lambda r: dumped(continual.ScoredExpansion()),
    "StrategySetup": lambda r: {
        "thin": r.model, "full": r.model, "example_inputs": r.inputs, "master": r.master_settings,
        "budget": fxgrow.Budget(neurons=1), "target": None,
    },
    "StrategySetup.growing": lambda r: {
        "self": continual.StrategySetup(r.model, r.model, r.inputs, r.master_settings, fxgrow.Budget(neurons=1)),
        "expansion": continual.ScoredExpansion(),
    },
    "StreamPlan": lambda r: dumped(r.plan),
    "StreamPlan.deal": lambda r: {"self": r.plan, "device": "cpu"},
    "StreamPlan.differs": lambda r: {"self": r.plan, "other": r.plan},
    "StreamPlan.network": lambda r: {"self": r.plan, "task": r.task},
    "Task": lambda r: fields_of(r.task),
    "TaskOutcome": lambda r: dumped(r.outcome),
    "TaskStats": lambda r: fields_of(continual.TaskStats("1")),
    "TrainSettings": lambda r: dumped(continual.TrainSettings()),
    "TrainSettings.learning_rate": lambda r: {"self": continual.TrainSettings(), "progress": 0.5},
    "TrainSettings.optimizer": lambda r: {
        "self": continual.TrainSettings(), "parameters": list(r.model.parameters()),
    },
    "TrainSettings.set_rate": lambda r: {
        "self": continual.TrainSettings(), "optimizer": r.optimizer, "progress": 0.5,
    },
    "WidthUse": lambda r: {"locked": 1, "unlocked": 1, "new": 1, "master": 1},
    "check_out": lambda r: {"out": r.new_path, "force": False},
    "load_master": lambda r: {"directory": r.master_directory, "expansion": None},
    "read_continual": lambda r: {"directory": r.continual_directory},
    "run_stream": lambda r: {
        "tasks": [r.task], "plan": r.plan, "out": r.new_path, "force": False, "callback": print_nothing,
    },
    "save_master": lambda r: {"master": r.learned, "directory": r.new_path},
    "split_classes": lambda r: {"data": r.splits, "tasks": 2, "seed": 0, "valid_share": 0.5},
    # fxgrow.training
    "BatchDone": lambda r: {"epoch": 1, "batch": 1, "loss": 1.0, "optimizer_step": 1},
    "CheckpointSaved": lambda r: {"epoch": 1, "directory": r.new_path},
    "DataChoice": lambda r: dumped(training.DataChoice()),
    "DataChoice.load": lambda r: {
        "self": training.DataChoice(name="digits", limit=4), "channels": 1, "size": 8, "seed": 0,
    },
    "EpochDone": lambda r: fields_of(
        training.EpochDone(1, 0, 1.0, 0.5, 0.1, 1.0, 0.5, 1, 1.0, 1.0, 0.5, 1.0)
    ),
    "GrowthPhase": lambda r: {"step": 1, "name": "search", "done": 1, "total": 2},
    "RunEnded": lambda r: {"epoch": 1, "before": r.run.before, "after": r.run.after},
    "RunStopped": lambda r: {"reason": "Ctrl-C"},
    "Evaluation": lambda r: {"loss": 1.0, "accuracy": 0.5},
    "GrowthSkipped": lambda r: {"step": 1, "epoch": 1, "reason": "it gained nothing"},
    "Control": lambda r: {"steps": 1, "loss_before": 1.0, "loss_grown": 1.0, "loss_trained": 0.5},
    "GrowthDone": lambda r: {
        "step": 1, "epoch": 1, "report": r.growth.report, "test_accuracy": 0.5, "control": Control(1, 1.0, 1.0, 0.5),
        "optimizer_step": 1, "average_accuracy": 0.5, "average_loss": 1.0,
    },
    "GrowthStarted": lambda r: {"step": 1, "epoch": 1},
    "CsvLog": lambda r: {"path": r.new_path},
    "JsonlLog": lambda r: {"path": r.new_path},
    "MlflowLog": lambda r: {"name": "mine", "every": 1},
    "TensorBoardLog": lambda r: {"directory": r.new_path, "every": 1},
    "TrackioLog": lambda r: {"project": "mine", "name": "first", "every": 1},
    "WandbLog": lambda r: {"name": "mine", "every": 1},
    "read_log": lambda r: {"path": r.log_file},
    "Checkpoints": lambda r: {"directory": r.new_path},
    "Grower": lambda r: r.grower_arguments,
    "Grower.follow": lambda r: {"self": r.grower, "companion": Convolutional()},
    "Grower.step": lambda r: {
        "self": r.grower, "batches": r.batches, "loss": 1.0, "epoch": 1, "step": None, "validation_loss": None,
        "validation_accuracy": None, "multiply_adds": 0.0,
    },
    "Grower.inputs_of": lambda r: {"self": r.grower, "batch": r.batches[0]},
    "Grower.load_state_dict": lambda r: {"self": r.grower, "state": r.grower.state_dict()},
    "regrow_from_state": lambda r: {
        "model": Convolutional(), "state": r.grower.state_dict(), "example_inputs": r.batches[0][0],
    },
    "save_sharded": lambda r: {"grower": r.grower, "directory": r.new_path},
    "read_sharded_state": lambda r: {"directory": r.new_path},
    "load_sharded": lambda r: {"grower": r.grower, "directory": r.new_path},
    "StepRecord": lambda r: {
        "result": training.StepResult(loss_before=1.0, loss_after=1.0, params=1, split=1, new=1, seconds=1.0),
        "control": Control(1, 1.0, 1.0, 1.0), "epoch": 1, "faithful_error": 0.0, "backtracks": 0, "graphs": {},
    },
    "Recipe": lambda r: dumped(r.recipe),
    "Run": lambda r: fields_of(r.run),
    "RunResult": lambda r: dumped(r.result),
    "RunSettings": lambda r: dumped(training.RunSettings()),
    "RunSettings.learning_rate": lambda r: {"self": training.RunSettings(), "progress": 0.5, "steps": 10},
    "RunSettings.new_optimizer": lambda r: {"self": training.RunSettings(), "model": r.model},
    "SGDSettings": lambda r: {},
    "AdamWSettings": lambda r: dumped(training.AdamWSettings()),
    "Augmentation": lambda r: dumped(training.Augmentation()),
    "Compilation": lambda r: dumped(training.Compilation()),
    "EarlyStop": lambda r: dumped(training.EarlyStop()),
    "EarlyStop.is_due": lambda r: {"self": training.EarlyStop(), "history": HISTORY},
    "MovingAverage": lambda r: dumped(training.MovingAverage()),
    "ConstantRate": lambda r: dumped(training.ConstantRate()),
    "CosineRate": lambda r: dumped(training.CosineRate()),
    "StepRate": lambda r: dumped(training.StepRate()),
    "RunResumed": lambda r: {"settings": r.settings, "batches_per_epoch": 1, "epochs": 1, "undecided": True},
    "RunStarted": lambda r: {
        "settings": r.settings, "batches_per_epoch": 1, "parameters": 1, "multiply_adds": 1,
    },
    "StoppedEarly": lambda r: {"epoch": 3, "patience": 1, "growth_steps_left": 1},
    "StepResult": lambda r: {
        "loss_before": 1.0, "loss_after": 1.0, "params": 1, "split": 1, "new": 1, "seconds": 1.0,
    },
    "WeightTraining": lambda r: dumped(training.WeightTraining()),
    "WeightTraining.learning_rate": lambda r: {"self": training.WeightTraining(), "epoch": 1},
    "WeightTraining.optimizer": lambda r: {"self": training.WeightTraining(), "model": r.model},
    "FireflySearch.learning_rate": lambda r: {"self": cells.FireflySearch(), "epoch": 1},
    "FireflySearch.optimizer": lambda r: {"self": cells.FireflySearch(), "model": r.model},
    "WrittenSpecs": lambda r: {"initial": r.spec, "final": r.spec},
    "AtEpochs": lambda r: {"epochs": (1, 2)},
    "AtSteps": lambda r: {"steps": (1, 2)},
    "ByPromise": lambda r: dumped(training.ByPromise()),
    "EqualPhases": lambda r: {},
    "EveryEpochs": lambda r: dumped(training.EveryEpochs()),
    "Measurement": lambda r: fields_of(training.Measurement(1, 9, 2.0)),
    "OnFullRank": lambda r: dumped(training.OnFullRank()),
    "OnPlateau": lambda r: dumped(training.OnPlateau()),
    "Promise": lambda r: {"gain": 0.1, "multiply_adds": 1.0},
    "Spectrum": lambda r: {"width": "conv", "values": (1.0, 0.5)},
    "Spectrum.rank_share": lambda r: {"self": training.Spectrum("conv", (1.0, 0.5)), "threshold": 0.01},
    "TrainingHistory": lambda r: fields_of(HISTORY),
    "UntilNoGain": lambda r: dumped(training.UntilNoGain()),
    "FOREIGN_TO_RUN": lambda r: {"path": r.directory},
    "accuracy": lambda r: {"model": r.model, "batches": r.batches},
    "cosine_rate": lambda r: {"initial": 1.0, "final": 0.0, "progress": 0.5, "total": 1.0},
    "cross_entropy": lambda r: {
        "output": torch.zeros(2, 3), "target": torch.tensor([0, 1]), "label_smoothing": 0.1,
    },
    "endless": lambda r: {"data": batches(images(), 4)},
    "evaluate": lambda r: {"model": r.model, "batches": r.batches, "loss": training.cross_entropy},
    "logits": lambda r: {"output": torch.zeros(2, 3)},
    "read_recipe": lambda r: {"path": r.recipe_file},
    "read_result": lambda r: {"directory": r.run_directory},
    "recipe_text": lambda r: {"recipe": r.recipe},
    "run_directory": lambda r: {
        "target": r.new_path, "replace": False, "stranger": training.FOREIGN_TO_RUN, "strangers_stay": False,
    },
    "run_result": lambda r: {"run": r.run, "settings": r.settings, "model": "net", "data": "tiny"},
    "run_writing_errors": lambda r: {"path": r.new_path},
    "seeded": lambda r: {"seed": 0},
    "set_rate": lambda r: {"optimizer": r.optimizer, "rate": 0.1},
    "sgd_step": lambda r: {"optimizer": r.optimizer, "loss": torch.ones((), requires_grad=True), "clip": 1.0},
    "shuffled": lambda r: {"data": images(), "size": 4, "generator": torch.Generator()},
    "train_and_grow": lambda r: {
        "model": r.model, "data": r.splits, "settings": r.settings, "example_inputs": r.inputs,
        "method": fxgrow.Firefly(), "budget": fxgrow.Budget(neurons=1), "history": (), "scope": fxgrow.Scope(),
        "listeners": (print_nothing,), "checkpoints": None,
    },
    "train_epoch": lambda r: {
        "model": r.fresh, "batches": r.batches, "loss": training.cross_entropy, "optimizer": r.optimizer,
        "on_step": print_nothing, "clip": 1.0, "precision": None,
    },
    "training_batches": lambda r: {"data": images(), "size": 4, "generator": torch.Generator()},
    "write_run": lambda r: {"directory": r.new_path, "run": r.run, "result": r.result, "recipe": None},
    # fxgrow.export
    "Check": lambda r: {"words": "checked", "error": None},
    "Exported": lambda r: {
        "path": r.saved, "format": "dot", "size": 1, "check": EXPORT.Check("checked"),
    },
    "Format": lambda r: fields_of(EXPORT.FORMATS["dot"]),
    "Options": lambda r: {"dynamic_batch": None, "license": "mit"},
    # fxgrow.methods
    "NASH": lambda r: dumped(methods.NASH()),
    "TINY": lambda r: dumped(methods.TINY()),
    "AutoGrow": lambda r: dumped(methods.AutoGrow()),
    "FastSplitting": lambda r: dumped(methods.FastSplitting()),
    "GradMax": lambda r: dumped(methods.GradMax()),
    "GradientPool": lambda r: dumped(methods.GradientPool()),
    "MethodConfig": lambda r: dumped(methods.MethodConfig()),
    "MethodRow": lambda r: fields_of(methods.CATALOG[0]),
    "Net2Deeper": lambda r: dumped(methods.Net2Deeper()),
    "Net2Wider": lambda r: {},
    "NetworkMorphism": lambda r: dumped(methods.NetworkMorphism()),
    "VarianceTransfer": lambda r: {},
    "available_methods": lambda r: {},
    "default_method": lambda r: {"scope": fxgrow.Scope()},
    "find_method": lambda r: {"name": "Firefly"},
    "from_scratch": lambda r: {"model": r.model, "seed": 0},
    # fxgrow.data
    "Batches": lambda r: {
        "dataset": images(), "size": 4, "generator": None, "limit": None, "drop_last": False,
    },
    "DataSet": lambda r: fields_of(images()),
    "DataSet.first": lambda r: {"self": images(), "count": 2},
    "DataSet.pick": lambda r: {"self": images(), "indices": [1, 0]},
    "DataSet.to": lambda r: {"self": images(), "device": "cpu"},
    "Splits": lambda r: fields_of(r.splits),
    "Splits.to": lambda r: {"self": r.splits, "device": "cpu"},
    "batches": lambda r: {
        "dataset": images(), "size": 4, "shuffle": False, "generator": None, "limit": None, "drop_last": False,
    },
    "load_data": lambda r: {
        "name": "digits", "root": None, "seed": 0, "channels": 1, "size": 4, "classes": None, "train_size": 4,
        "test_size": 4,
    },
    "require_root_is_read": lambda r: {"name": "cifar10", "root": r.directory},
    # What is documented of other packages.
    "spec.describe": lambda r: {
        "graph_module": r.loaded, "example_inputs": r.inputs, "widths": r.coupling.widths, "history": (),
        "trust": frozenset(),
    },
    "spec.save": lambda r: {
        "graph_module": r.loaded, "directory": r.new_path, "spec": None, "trust": frozenset(),
    },
    "spec.read_spec": lambda r: {"directory": r.saved, "trust": frozenset()},
    "report.diff_page": lambda r: {"a": r.spec, "b": r.spec, "names": ("A", "B")},
    "growth.Proposal": lambda r: {
        "split": frozenset({0}), "new": {0: 2}, "layers": None, "follows_budget": False,
        "in_proportion": False, "refusals": {},
    },
    "growth.Scores": lambda r: {"split": torch.ones(2), "new": torch.ones(2), "per_cost": True},
}
# fmt: on

TRIGGERS = {
    "AtEpochs": training.AtEpochs(epochs=(1,)),
    "AtSteps": training.AtSteps(steps=(1,)),
    "ByPromise": training.ByPromise(),
    "EqualPhases": training.EqualPhases(),
    "EveryEpochs": training.EveryEpochs(),
    "OnFullRank": training.OnFullRank(),
    "OnPlateau": training.OnPlateau(),
    "UntilNoGain": training.UntilNoGain(),
}


def asked(name: str) -> Row:
    """The row of a method of a trigger."""
    return lambda right: {"self": TRIGGERS[name], "history": HISTORY}


def rated(name: str) -> Row:
    """The row of the rate of a schedule."""
    schedule = getattr(training, name)()
    return lambda right: {
        "self": schedule, "lr": 0.1, "final_lr": 0.0, "progress": 0.5, "epochs": 2, "steps": 10,
    }  # fmt: skip


ROWS = {
    **ROWS,
    **{f"{name}.{method}": asked(name) for name in TRIGGERS for method in ("asks", "should_grow")},
    **{f"{name}.rate": rated(name) for name in ("ConstantRate", "CosineRate", "StepRate")},
}

CALLED_BY_FXGROW = {
    *(f"{name}.{verb}" for name in methods.METHODS for verb in ("propose", "refine", "search")),
    "Auto.pick", "Firefly.begin",
    "Checkpoints.save", "Checkpoints.read", "ScoredExpansion.expand", "CellModule.forward", "EvaluationNetwork.forward",
}  # fmt: skip
"""Methods of the protocols of growth and of modules: fxgrow or torch calls them, with what it made itself."""

OF_THE_CALLER = {
    ("CellModule", "choose"), ("EvaluationNetwork", "choose"), ("FireflySearch.search", "callback"),
    ("run_stream", "callback"), ("train_and_grow", "listeners"), ("Grower", "listeners"), ("train_epoch", "on_step"),
    ("run_directory", "stranger"),
}  # fmt: skip
"""Functions of the caller's: what they raise when they are called passes through, as it has to."""

SAID_BY_GROWTH = {("grow", "model"), ("grow", "batches"), ("grow", "loss_fn")}
"""What growth says of models, batches and losses that do not fit each other: ``tests/growth`` tries it."""


def is_checked_kind(value: object) -> bool:
    """Whether a public value can be called, and is no error class, protocol or alias of a type."""
    if inspect.isclass(value):
        is_error = issubclass(value, (FxgrowError, InternalError))
        is_lookup = issubclass(value, Enum)
        return not is_error and not is_lookup and not getattr(value, "_is_protocol", False)
    return inspect.isfunction(value)


def public_callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public function and class, and every method of such a class that takes an argument."""
    seen: set[str] = set()
    for package in PACKAGES:
        for name in package.__all__:
            value = getattr(package, name)
            if is_checked_kind(value) and name not in seen:
                seen.add(name)
                yield name, value
                if inspect.isclass(value):
                    yield from public_methods(name, value)
    for package_name, (package, names) in DOCUMENTED.items():
        for name in names:
            yield f"{package_name}.{name}", getattr(package, name)


def public_methods(name: str, kind: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The methods of fxgrow's own that take an argument; those of every settings object are the base class's."""
    for method_name in dir(kind):
        method = inspect.getattr_static(kind, method_name)
        is_own = inspect.isfunction(method) and method.__module__.startswith("fxgrow.")
        if method_name.startswith("_") or not is_own or method_name == "model_copy":
            continue
        if len(inspect.signature(method).parameters) > 1:
            yield f"{name}.{method_name}", method


WRONG_VALUES: Mapping[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "-1": lambda: -1,
    "0": lambda: 0,
    "10**9": lambda: 10**9,
    "10**30": lambda: 10**30,
    "0.5": lambda: 0.5,
    "nan": lambda: math.nan,
    "inf": lambda: math.inf,
    "empty text": lambda: "",
    "x": lambda: "x",
    "zero byte": lambda: "\0",
    "lone surrogate": lambda: "\udcff\ud800",
    "long text": lambda: "x" * 5000,
    "bytes": lambda: b"x",
    "empty list": list,
    "[1]": lambda: [1],
    "[[x]]": lambda: [["x"]],
    "(None,)": lambda: (None,),
    "empty dict": dict,
    "{0: 10**9}": lambda: {"conv": 10**9},
    "{x: x}": lambda: {"x": "x"},
    "object": object,
    "numpy": lambda: np.zeros(3),
    "a class": lambda: nn.Linear,
    "an empty module": nn.Module,
    "another module": lambda: nn.Linear(2, 2),
    "meta module": lambda: Convolutional().to("meta"),
    "float64 module": lambda: Convolutional().double(),
    "0-d tensor": lambda: torch.tensor(1.0),
    "integers": lambda: torch.zeros(2, 3, 6, 6, dtype=torch.long),
    "float64": lambda: torch.zeros(2, 3, 6, 6, dtype=torch.float64),
    "another shape": lambda: torch.zeros(2, 5),
    "no images": lambda: torch.zeros(0, 3, 6, 6),
    "meta tensor": lambda: torch.zeros(2, 3, 6, 6, device="meta"),
    "wrong batches": lambda: [(torch.zeros(2, 5), torch.zeros(2))],
    "wrong labels": lambda: [(torch.zeros(2, 3, 6, 6), torch.tensor([0, 99]))],
    "a batch on meta": lambda: [(torch.zeros(2, 3, 6, 6, device="meta"), torch.tensor([0, 1]))],
}


def foreign_error(function: Callable[..., Any], arguments: dict[str, Any]) -> Exception | None:
    """What a call raises that is no error of fxgrow."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = function(**arguments)
            # A context manager does its work when it is entered.
            if hasattr(result, "gen"):
                with contextlib.suppress(FxgrowError), result:
                    pass
    except FxgrowError:
        return None
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return error
    return None


def failures_of(name: str, function: Callable[..., Any], row: Row, right: Right) -> list[str]:
    """The arguments and wrong values to which a call raises what is no error of fxgrow."""
    assert foreign_error(function, dict(row(right))) is None
    failures = []
    for argument in row(right):
        if argument == "self":
            continue
        arguments = dict(row(right))
        for words, make in WRONG_VALUES.items():
            passes_on = (name, argument) in OF_THE_CALLER and callable(make())
            if passes_on or (name, argument) in SAID_BY_GROWTH:
                continue
            error = foreign_error(function, {**arguments, argument: make()})
            if error is not None:
                failures.append(f"{argument} = {words}: {error!r:.150}")
    return failures
