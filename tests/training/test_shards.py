"""Several processes train and grow one model: as one process would, or not at all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn

from fxgrow.randomness import drawing_apart, random_states
from fxgrow.ranks import Ranks
from fxgrow.training.shards import Shards
from tests.training import shard_cases

pytestmark = pytest.mark.skipif(
    not distributed.is_available() or not distributed.is_gloo_available(),
    reason="torch was built without gloo",
)
Results = dict[str, list[Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the checkpoints of a run of one process."""
    made = tmp_path_factory.mktemp("shards")
    shard_cases.kept(made, "one")
    return made


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    """What each of two processes said of every case."""
    spawn(shard_cases.run_one_of_two, (folder,), nprocs=2)  # type: ignore[no-untyped-call]  # torch has no types there
    return {name: _read(folder, name, 2) for name in shard_cases.TOGETHER}


@pytest.fixture(scope="module")
def results_of_four(folder: Path, results: Results) -> Results:
    """What each of four said; they go on where two were."""
    assert results
    spawn(shard_cases.run_one_of_four, (folder,), nprocs=4)  # type: ignore[no-untyped-call]
    return {name: _read(folder, name, 4) for name in shard_cases.BY_FOUR}


def _read(folder: Path, name: str, count: int) -> list[Any]:
    paths = [folder / f"{name}-{rank}-of-{count}" for rank in range(count)]
    return [torch.load(path) for path in paths if path.exists()]


def require_same_weights(found: dict[str, Any], expected: dict[str, Any], bound: float) -> None:
    assert found["state"].keys() == expected["state"].keys()
    for name, tensor in found["state"].items():
        assert tensor.shape == expected["state"][name].shape, name
        difference = (tensor - expected["state"][name]).abs().max()
        assert float(difference) <= bound, name


def require_same_run(first: dict[str, Any], alone: dict[str, Any]) -> None:
    require_same_weights(first, alone, 1e-9)
    assert first["growths"] == alone["growths"]
    assert first["events"] == alone["events"]
    for name in ("batches", "after", "control"):
        assert first[name] == pytest.approx(alone[name], abs=1e-9), name
    for measured, other in zip(first["measured"], alone["measured"], strict=True):
        for number, expected in zip(measured, other, strict=True):
            assert number == (None if expected is None else pytest.approx(expected, abs=1e-9))


@pytest.mark.parametrize("name", shard_cases.SAME_AS_ONE)
def test_two_end_where_one_ends(name: str, results: Results) -> None:
    first, second = results[name]
    require_same_run(first, shard_cases.SAME_AS_ONE[name]())
    require_same_weights(second, first, 0)
    assert second["events"] == 0, "only the first one tells"
    # The cases are not idle: most grow, and the early stop stops.
    assert first["growths"] or name in ("promise", "experts")
    assert len(first["measured"]) < 6


@pytest.mark.parametrize("name", ["plain", "few", "experts"])
def test_four_end_where_one_ends(name: str, results_of_four: Results) -> None:
    first, *others = results_of_four[name]
    require_same_run(first, shard_cases.SAME_AS_ONE[name]())
    assert len(others) == 3
    for other in others:
        require_same_weights(other, first, 0)


def test_batch_norms_are_those_of_the_first(results: Results) -> None:
    first, second = results["norms"]
    require_same_weights(first, second, 0)
    assert first["growths"] and "norm.running_mean" in first["state"]


def test_runs_go_on_with_another_number_of_processes(
    folder: Path, results: Results, results_of_four: Results
) -> None:
    whole = shard_cases.trained(shard_cases.Network, shard_cases.settings("augmented"))
    for first in (
        results["kept"][0],
        results["resumed from one"][0],
        results_of_four["resumed from two"][0],
    ):
        require_same_weights(first, whole, 1e-9)
    for others in (results["resumed from one"], results_of_four["resumed from two"]):
        assert all(
            len(one["batches"]) == (4 if not number else 0) for number, one in enumerate(others)
        )
    require_same_weights(shard_cases.resumed(folder, "dropping", shard_cases.DROPPING), whole, 10)


def test_what_passes_draw_goes_on_too(results: Results) -> None:
    """Dropout draws by the number of the step, so a stop changes nothing."""
    require_same_weights(results["dropping resumed"][0], results["dropping"][0], 0)


@pytest.mark.parametrize("name", shard_cases.REFUSED)
def test_what_cannot_be_is_refused_before_the_first_step(name: str, results: Results) -> None:
    is_method = name in ("nash", "gradmax", "tiny", "latency")
    for one in results[name]:
        assert one["code"] == ("one-process" if is_method else "bad-setting"), one
        assert not one["stepped"]


def test_a_batch_norm_asks_for_two(results: Results) -> None:
    assert "the two that a batch norm needs" in results["small batch for norms"][0]["message"]


def test_all_must_be_asked_for_the_same(results: Results) -> None:
    assert [one["code"] for one in results["other seed"]] == ["ranks-differ", "ranks-differ"]


def test_one_that_is_killed_ends_the_other(results: Results) -> None:
    (first,) = results["killed"]
    assert first["code"] == "rank-failed" and "is gone" in first["message"]
    assert "gloo" not in first["message"], "no places in torch's code"


@dataclass(frozen=True, eq=False)
class Numbered(Ranks):
    """One of some processes, which sends nothing."""

    of: int = 1
    at: int = 0

    @property
    def count(self) -> int:
        return self.of

    @property
    def number(self) -> int:
        return self.at


@pytest.mark.parametrize("least", [1, 2])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_parts_make_up_a_batch(count: int, least: int) -> None:
    for size in range(1, 14):
        images, labels = torch.arange(size).float(), torch.arange(size)
        shards = [Shards(Numbered(of=count, at=n), least).of(images, labels) for n in range(count)]
        counted = [shard for shard in shards if shard.weight]
        assert torch.cat([shard.target for shard in counted]).tolist() == list(range(size))
        # The mean over processes of weighted means is the mean over the batch.
        means = sum(float(shard.inputs.mean()) * shard.weight for shard in shards) / count
        assert means == pytest.approx(float(images.mean()))
        for shard in shards:
            assert len(shard.target) >= min(least, size)
            assert torch.equal(shard.inputs, shard.target.float())


def test_inputs_of_any_form_are_cut() -> None:
    inputs = {"image": torch.zeros(4, 2), "scale": torch.tensor(2.0), "mode": "wide"}
    shard = Shards(Numbered(of=2, at=1)).of(inputs, torch.arange(4))
    assert len(shard.inputs["image"]) == 2 and float(shard.inputs["scale"]) == 2.0
    assert shard.inputs["mode"] == "wide" and shard.target.tolist() == [2, 3]


def test_each_process_draws_for_itself_and_leaves_the_rest_alike() -> None:
    before, drawn = random_states()["torch"], []
    for number in range(2):
        for step in range(2):
            with Shards(Numbered(of=2, at=number)).drawing(step):
                drawn.append(float(torch.rand(())))
    assert len(set(drawn)) == 4
    assert torch.equal(random_states()["torch"], before)


def test_drawing_apart_seeds_every_generator() -> None:
    import random

    import numpy as np

    def draw() -> tuple[float, float, float]:
        return float(torch.rand(())), float(np.random.random()), random.random()

    with drawing_apart(5):
        first = draw()
    between = draw()
    with drawing_apart(5):
        assert draw() == first
    assert all(one != other for one, other in zip(first, between, strict=True))


def test_alone_nothing_is_divided() -> None:
    shards, model = Shards(), torch.nn.Linear(2, 2)
    images, labels = torch.zeros(3, 2), torch.zeros(3, dtype=torch.long)
    assert shards.of(images, labels).inputs is images
    assert shards.wrapped(model) is model and shards.is_alone
