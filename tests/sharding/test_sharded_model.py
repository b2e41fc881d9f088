"""Processes grow a model to which ``fully_shard`` was applied: as one grows the whole, or not at all."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn

from tests.sharding import sharded_cases

pytestmark = pytest.mark.skipif(
    not distributed.is_available() or not distributed.is_gloo_available(),
    reason="torch was built without gloo",
)
Results = dict[str, list[Any]]

BOUNDS = {"language": 1e-6, "trained": 1e-9}
"""The first is in float32; in the second steps of Adam follow, which divide by small numbers."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What each of the two processes said of every case."""
    folder = tmp_path_factory.mktemp("two")
    spawn(sharded_cases.run_one_of_two, (folder,), nprocs=2)  # type: ignore[no-untyped-call]  # torch has no types there
    found = {name: _read(folder, name, 2) for name in ("saved", *sharded_cases.TOGETHER)}
    return {**found, "folder": [folder]}


@pytest.fixture(scope="module")
def results_of_four(tmp_path_factory: pytest.TempPathFactory, results: Results) -> Results:
    """What each of four processes said of some cases."""
    folder = tmp_path_factory.mktemp("four")
    given = folder, *results["folder"]
    spawn(sharded_cases.run_one_of_four, given, nprocs=4)  # type: ignore[no-untyped-call]
    return {name: _read(folder, name, 4) for name in ("resumed", *sharded_cases.BY_FOUR)}


def _read(folder: Path, name: str, count: int) -> list[Any]:
    paths = [folder / f"{name}-{rank}" for rank in range(count)]
    return [torch.load(path) for path in paths if path.exists()]


def require_equal(found: dict[str, Any], expected: dict[str, Any], bound: float) -> None:
    assert found.get("widths") == expected.get("widths")
    for loss, other in zip(found.get("losses", ()), expected.get("losses", ()), strict=True):
        assert abs(loss - other) <= bound
    assert found["state"].keys() == expected["state"].keys()
    for name, tensor in found["state"].items():
        difference = (tensor - expected["state"][name]).abs().max()
        assert float(difference) <= bound, name


@pytest.mark.parametrize("name", sharded_cases.SAME_AS_ONE)
def test_they_grow_what_one_process_grows(name: str, results: Results) -> None:
    first, second = results[name]
    alone = sharded_cases.SAME_AS_ONE[name](sharded_cases.WHOLE, sharded_cases.unsharded)
    require_equal(first, alone, BOUNDS.get(name, 1e-12))
    require_equal(second, first, 0)


@pytest.mark.parametrize("name", sharded_cases.FOUR_SAME_AS_ONE)
def test_four_grow_what_one_process_grows(name: str, results_of_four: Results) -> None:
    first, *others = results_of_four[name]
    case, _ = sharded_cases.FOUR_SAME_AS_ONE[name]
    require_equal(first, case(sharded_cases.WHOLE, sharded_cases.unsharded), 1e-12)
    assert len(others) == 3
    for other in others:
        require_equal(other, first, 0)


def test_copies_of_a_unit_are_units(results_of_four: Results) -> None:
    units = results_of_four["blocks"][0]["units"]
    assert len(units) > 2 and all(units)


def test_a_coupling_needs_no_exchange_and_a_copy_leaves_the_model_alone(results: Results) -> None:
    for one in results["widened"]:
        assert one["gathered"] == 0 and one["same"]


def test_weights_are_gathered_one_by_one(results: Results) -> None:
    for one in results["memory"]:
        assert one["left"] == 0
        assert 0 < one["most"] <= 3 * one["largest"]


def test_gradients_of_candidates_are_sent_in_each_step_and_little_else(results: Results) -> None:
    step, count = sharded_cases.candidates()
    for told in results["traffic"]:
        for name, steps in (("plain", 1), ("short", 1), ("long", 3)):
            sizes = told[name]["sizes"]
            assert sizes.count(step) == steps + 2, "two more refine"
            others = [size for size in sizes if size != step]
            # Scores, and a number for each loss; a flag with every exchange.
            assert sum(size for size in others if size > 1) <= 4 * count
        assert len(told["plain"]["sizes"]) < 10 * count
        # A step gathers each weight for the forward pass, and some for the backward pass.
        more = told["long"]["gathered"] - told["short"]["gathered"]
        assert 2 * told["weights"] <= more <= 2 * 2 * told["weights"]


def test_the_largest_error_decides(results: Results) -> None:
    assert [one["agreed"] for one in results["agreement"]] == [[True, True]] * 2


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("failing", ["rank-failed", "bad-loss"]),
        ("other widths", ["ranks-differ", "ranks-differ"]),
        ("other numbers", ["ranks-differ", "ranks-differ"]),
        ("killed", ["rank-failed"]),
    ],
)
def test_what_one_cannot_none_does(name: str, codes: list[str], results: Results) -> None:
    assert [one["code"] for one in results[name]] == codes
    assert all(one["same"] for one in results[name])


def test_what_two_saved_goes_on_with_four_and_with_one(
    results: Results, results_of_four: Results, mesh: Any
) -> None:
    (folder,), ended = results["folder"], results["saved"][0]
    one = sharded_cases.resumed(sharded_cases.WHOLE, folder, sharded_cases.sharded)
    for resumed in (one, *results_of_four["resumed"]):
        require_equal(resumed, ended, 1e-9)
        assert resumed["history"] == ended["history"] == 1
        assert resumed["lr"] == ended["lr"] == 5e-3
    names = [path.name for path in (folder / "checkpoint").iterdir()]
    assert all(name.endswith((".safetensors", ".json")) for name in names), "nothing is pickled"
