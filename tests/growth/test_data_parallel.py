"""Two processes grow one model: as one process with all examples would, or not at all."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn

from tests.growth import rank_cases

pytestmark = pytest.mark.skipif(
    not distributed.is_available() or not distributed.is_gloo_available(),
    reason="torch was built without gloo",
)
Results = dict[str, list[Any]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What each of the two processes said of every case."""
    folder = tmp_path_factory.mktemp("ranks")
    spawn(rank_cases.run_one_of_two, (folder,), nprocs=2)  # type: ignore[no-untyped-call]  # torch has no types there
    return {name: _read(folder, name, 2) for name in rank_cases.TOGETHER}


@pytest.fixture(scope="module")
def results_of_four(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What each of four processes said of some cases."""
    folder = tmp_path_factory.mktemp("four")
    spawn(rank_cases.run_one_of_four, (folder,), nprocs=4)  # type: ignore[no-untyped-call]
    return {name: _read(folder, name, 4) for name in rank_cases.BY_FOUR}


def _read(folder: Path, name: str, count: int) -> list[Any]:
    paths = [folder / f"{name}-{rank}" for rank in range(count)]
    return [torch.load(path) for path in paths if path.exists()]


def require_equal(found: dict[str, Any], expected: dict[str, Any], bound: float) -> None:
    assert found["widths"] == expected["widths"]
    for loss, other in zip(found["losses"], expected["losses"], strict=True):
        assert abs(loss - other) <= bound
    assert found["state"].keys() == expected["state"].keys()
    for name, tensor in found["state"].items():
        difference = (tensor - expected["state"][name]).abs().max()
        assert float(difference) <= bound, name


SAME_AS_ONE = (
    *rank_cases.METHODS,
    *rank_cases.ARCHITECTURES,
    "trained",
    "one head each",
    "single example",
)


@pytest.mark.parametrize("name", SAME_AS_ONE)
def test_they_grow_what_one_process_grows(name: str, results: Results) -> None:
    first, second = results[name]
    require_equal(first, rank_cases.alone(name), 1e-12)
    require_equal(second, first, 0)


@pytest.mark.parametrize("name", rank_cases.BY_FOUR)
def test_four_grow_what_one_process_grows(name: str, results_of_four: Results) -> None:
    first, *others = results_of_four[name]
    require_equal(first, rank_cases.alone(name), 1e-12)
    assert len(others) == 3
    for other in others:
        require_equal(other, first, 0)


def test_statistics_inside_an_opaque_part_are_alike(results: Results) -> None:
    require_equal(*results["opaque"], 0)


def test_running_statistics_are_those_of_the_first(results: Results) -> None:
    first, second = results["other statistics"]
    require_equal(first, second, 0)
    kept = rank_cases.network()[1].running_mean
    assert torch.equal(first["state"]["1.running_mean"][: len(kept)], kept)


def test_a_copy_grows_and_the_wrapper_stays(results: Results) -> None:
    for one in results["copied"]:
        assert one["same"] and one["class"] == "Sequential"


def test_a_grower_decides_by_the_mean_of_all(results: Results) -> None:
    first, second = results["in a loop"]
    assert first["steps"] == second["steps"] == [False, False, True, False]
    assert first["losses"] == second["losses"] == [1.0, 1.2, 1.4, 1.6]
    assert first["kept"] and second["kept"]
    assert first["hooked"] >= len(first["steps"]), "once for each backward pass, grown or not"
    for name, tensor in first["state"].items():
        # Batch norms see their own examples in training.
        assert "running" in name or torch.equal(tensor, second["state"][name])


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("nash", ["one-process", "one-process"]),
        ("gradmax", ["one-process", "one-process"]),
        ("latency", ["one-process", "one-process"]),
        ("other weights", ["ranks-differ", "ranks-differ"]),
        ("failing", ["rank-failed", "bad-loss"]),
        ("one more batch", ["ranks-differ", "ranks-differ"]),
        ("killed", ["rank-failed"]),
    ],
)
def test_what_one_cannot_none_does(name: str, codes: list[str], results: Results) -> None:
    assert [one["code"] for one in results[name]] == codes
    assert all(one["same"] for one in results[name])


def test_who_is_gone_is_told_from_who_failed(results: Results) -> None:
    assert "says why" in results["failing"][0]["message"]
    assert "is gone" in results["killed"][0]["message"]
