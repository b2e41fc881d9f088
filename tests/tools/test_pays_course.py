"""Runs of the experiments: where they grow, what they charge, what they note."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tools.experiments.pays.arms import GROWN_ARMS
from tools.experiments.pays.course import Course, run, scratch_size, stage_ends
from tools.experiments.pays.runs import LENGTHS, errors_by_length, tuned
from tools.experiments.pays.task import (
    Problem,
    Progress,
    Shortened,
    Task,
    cosine_of_stage,
    late_decay,
    mean_loss,
)
from tools.experiments.pays.tasks import TASKS


def network(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 1))


def draw(seed: int) -> Problem:
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(seed))
    y = x.prod(1, keepdim=True)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield x, y

    def loss(model: nn.Module) -> float:
        return mean_loss(model, F.mse_loss, x, y)

    return Problem(batches(), F.mse_loss, loss, accuracy=lambda model: -loss(model), held_out_loss=loss)  # fmt: skip


TASK = Task("product", network, draw, (2, 3, 5), steps=400, rates=(0.01,), growth_ends=0.5)


@pytest.fixture(scope="module")
def course() -> Course:
    return run(TASK, "zero", 0, 0.01)


def test_a_run_grows_at_equal_distances(course: Course) -> None:
    assert stage_ends(TASK, 1000) == [250, 500, 1000]
    assert [stage.parameters for stage in course.stages] == [11, 16, 26]
    ends = stage_ends(TASK, course.stages[-1].flops)
    for stage, end in zip(course.stages, ends, strict=True):
        assert stage.flops == pytest.approx(end, rel=0.05)


def test_every_growth_is_charged(course: Course) -> None:
    assert course.search_flops == sum(growth.flops for growth in course.growths) > 0
    assert course.flops == course.stages[-1].flops
    assert course.growths[0].flops < course.stages[1].flops - course.stages[0].flops


def test_the_loss_is_looked_at_right_before_and_after(course: Course) -> None:
    """New neurons without effect leave it as it is; then it falls."""
    for stage, growth in zip(course.stages, course.growths, strict=False):
        assert growth.loss_before == pytest.approx(stage.error)
        assert growth.loss_after == pytest.approx(growth.loss_before, rel=1e-5)
        assert stage.accuracy == -stage.error


def test_a_structure_from_scratch_gets_what_the_reference_had(course: Course) -> None:
    first = run(TASK, "scratch 1", 0, 0.01, course.allocations)
    assert first.parameters == course.stages[1].parameters
    assert first.flops == pytest.approx(course.stages[1].flops, rel=0.05)
    last = run(TASK, "scratch", 0, 0.01, course.allocations)
    assert last.parameters == course.parameters
    assert last.flops == pytest.approx(course.flops, rel=0.05)


def test_the_full_network() -> None:
    full = run(replace(TASK, full=lambda: network(20)), "full", 0, 0.01)
    assert (full.parameters, len(full.stages)) == (101, 1)
    with pytest.raises(ValueError, match="no network of full size"):
        run(TASK, "full", 0, 0.01)


class Residual(nn.Module):
    """``x + down(tanh(up(x)))``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(3, width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = x + self.down(torch.tanh(self.up(x)))
        return residual


class Deep(nn.Module):
    """As many blocks as neurons in each of them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Residual(size) for _ in range(size)))
        self.out = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.blocks(x))
        return y


DEEP = replace(
    TASK, make=Deep, widths=(1, 2, 4), blocks=(1, 2, 4), grown_widths=("*.up",), steps=60
)


@pytest.mark.parametrize("arm", ["blocks, new", "blocks, copied", "blocks, stack"])
def test_networks_grow_in_depth_and_width_together(arm: str) -> None:
    deeper = run(DEEP, arm, 0, 0.003)
    sizes = [sum(p.numel() for p in Deep(size).parameters()) for size in DEEP.widths]
    assert [stage.parameters for stage in deeper.stages] == sizes
    assert deeper.parameters == run(DEEP, "scratch", 0, 0.003).parameters
    for growth in deeper.growths:
        assert growth.loss_before is not None
        kept = growth.loss_after == pytest.approx(growth.loss_before, rel=1e-5)
        assert kept == (arm != "blocks, stack")


def test_a_shortened_arm_is_the_other_one_with_fewer_flops() -> None:
    shorter = replace(DEEP, shortened={"half": Shortened("blocks, new", 0.5)})
    whole, half = run(DEEP, "blocks, new", 0, 0.003), run(shorter, "half", 0, 0.003)
    assert half.flops == pytest.approx(0.5 * whole.flops, rel=0.05)
    assert half.parameters == whole.parameters
    assert half.curve[-1][0] == pytest.approx(0.5, rel=0.05)
    assert max(along for along, _ in half.curve) == half.curve[-1][0]


def test_the_language_model_grows_to_the_network_that_scratch_trains() -> None:
    task = replace(TASKS["lm-deep"], steps=3)
    grown, scratch = run(task, "blocks, new", 0, 0.004), run(task, "scratch", 0, 0.004)
    assert (len(grown.stages), grown.parameters) == (2, scratch.parameters)


def test_lengths_tell_what_more_steps_would_do(tmp_path: Path) -> None:
    """Of the widest and of the narrow network, each from its file if it is there."""
    task = replace(TASK, steps=40, rates=(0.003, 0.01))
    found = errors_by_length(task, tmp_path)
    assert list(found) == list(LENGTHS)
    for errors in found.values():
        assert set(errors) == {"scratch", "narrow"}
    assert found[2.0]["scratch"] < found[0.25]["scratch"]
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert len(written) == 2 * len(LENGTHS) * len(task.rates)
    assert errors_by_length(task, tmp_path) == found
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_arms_that_grow_choose_when(tmp_path: Path) -> None:
    """At their own rate, by the seeds that are not in the result; others have nothing to choose."""
    task = replace(
        TASK, steps=60, rates=(0.003, 0.01, 0.03), arms=("zero", "scratch"), extensions=0
    )
    settings = tuned(replace(task, moments=(0.2, 0.8)), tmp_path)
    assert settings["scratch"].growth_ends is None
    assert settings["zero"].growth_ends is not None
    assert settings["zero"].growth_ends.is_at_edge
    errors = {}
    for moment in (0.2, 0.8):
        found = [
            run(replace(task, growth_ends=moment), "zero", seed, settings["zero"].rate.best).error
            for seed in task.tuning_seeds
        ]
        errors[moment] = math.prod(found)
    assert settings["zero"].growth_ends.best == min(errors, key=lambda moment: errors[moment])
    assert not {path.name.split("-")[1] for path in tmp_path.rglob("*.json")} & {"0", "1"}


def test_names_of_structures_from_scratch() -> None:
    assert [scratch_size(arm) for arm in ("scratch", "scratch 2", "narrow")] == [-1, 2, None]
    assert not any(scratch_size(arm) for arm in GROWN_ARMS)


def test_rates_fall_late_or_between_growths() -> None:
    assert late_decay(Progress(0.7, 0.9)) == 1
    assert late_decay(Progress(0.85, 0.0)) == pytest.approx(0.5)
    assert cosine_of_stage(Progress(0.9, 0.0)) == 1
    assert cosine_of_stage(Progress(0.1, 0.5)) == pytest.approx(0.5)
    assert cosine_of_stage(Progress(0.1, 1.2)) == 0
