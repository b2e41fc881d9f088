"""A master network on disk: the same bytes, the same bits, and nothing else is taken for one."""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fxgrow.continual import Master
from fxgrow.continual.state import tensor_fingerprint
from fxgrow.continual.storage import RECORD, TENSORS, load_master, save_master
from fxgrow.documents.tensor_files import ALIGNMENT
from fxgrow.errors import RunError, SpecError
from tests.continual.zoo import (
    BUDGET,
    EXPANSION,
    SETTINGS,
    data,
    learn,
    master,
    reference_outputs,
    stream,
)
from tests.networks import NETWORKS, images

Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest of the masters, for tests that only read it."""
    directory = tmp_path_factory.mktemp("saved") / "block"
    save_master(stream("block").master, directory)
    return directory


def forged(
    saved: Path, directory: Path, change: Callable[[Tensors], Any], *, signed: bool = True
) -> Path:
    """A copy with changed tensors, which the record vouches for if ``signed``."""
    held, record = load_file(saved / TENSORS), json.loads((saved / RECORD).read_text())
    change(held)
    directory.mkdir(exist_ok=True)
    save_file(held, directory / TENSORS)
    if signed:
        record["tensors"] = hashlib.sha256((directory / TENSORS).read_bytes()).hexdigest()
    (directory / RECORD).write_text(json.dumps(record))
    return directory


def refusal(directory: Path) -> str:
    with pytest.raises(SpecError) as caught:
        load_master(directory)
    return caught.value.code


def test_what_is_loaded_lies_where_torch_lays_tensors(saved: Path) -> None:
    assert any(tensor.data_ptr() % ALIGNMENT for tensor in load_file(saved / TENSORS).values())
    loaded = load_master(saved)
    states = loaded.tasks.values()
    held = [
        *loaded.union.module.state_dict().values(),
        *(x for s in states for x in (*s.own.values(), *s.reference_inputs, *s.reference_outputs)),
    ]
    assert not any(tensor.data_ptr() % ALIGNMENT for tensor in held)


def test_a_task_is_known_by_images_that_lie_well_wherever_those_of_the_data_lie(
    tmp_path: Path,
) -> None:
    askew = (
        torch.empty(8 * 3 * 6 * 6 + 1, dtype=torch.float64)[1:].view(8, 6, 6, 3).permute(0, 3, 1, 2)
    )
    train = [(askew.copy_(data("a")[0][0]), data("a")[0][1])]
    learner = master("block")
    learner.learn("a", train, train, classes=2, budget=BUDGET)
    assert learner.tasks["a"].reference_inputs[0].data_ptr() % ALIGNMENT == 0
    save_master(learner, tmp_path / "master")
    state = load_master(tmp_path / "master").tasks["a"]
    assert state.reference_inputs[0].stride() == learner.tasks["a"].reference_inputs[0].stride()


@pytest.mark.parametrize("name", NETWORKS)
def test_saved_loaded_and_saved_again_are_the_same_bytes(name: str, tmp_path: Path) -> None:
    learner = stream(name).master
    save_master(learner, tmp_path / "one")
    loaded = load_master(tmp_path / "one")
    save_master(loaded, tmp_path / "two")
    for file in (RECORD, TENSORS):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    for task in learner.tasks:
        assert tensor_fingerprint(loaded.network(task)) == tensor_fingerprint(learner.network(task))
        assert torch.equal(reference_outputs(loaded, task), stream(name).heard[-1][task])
    loaded.check()


@pytest.mark.parametrize("name", NETWORKS)
def test_learning_goes_on_to_the_same_bits(name: str, tmp_path: Path) -> None:
    whole, stopped = master(name), master(name)
    for learner in (whole, stopped):
        learn(learner, "a")
    save_master(stopped, tmp_path / "a")
    loaded = load_master(tmp_path / "a", expansion=EXPANSION)
    assert loaded.settings == SETTINGS
    ours, theirs = learn(whole, "b"), learn(loaded, "b")
    times = dict.fromkeys(("seconds", "cpu_seconds", "check_seconds"), 0.0)
    assert ours.model_copy(update=times) == theirs.model_copy(update=times)
    assert all(
        tensor_fingerprint(whole.network(task)) == tensor_fingerprint(loaded.network(task))
        for task in ("a", "b")
    )
    for learner, place in ((whole, "whole"), (loaded, "loaded")):
        save_master(learner, tmp_path / place)
    assert (tmp_path / "whole" / TENSORS).read_bytes() == (
        tmp_path / "loaded" / TENSORS
    ).read_bytes()


def _put(name: str, value: torch.Tensor, held: Tensors) -> None:
    held[name] = value


def masks(held: Tensors) -> list[tuple[str, np.ndarray[Any, Any]]]:
    return [(name, np.unpackbits(held[name].numpy())) for name in sorted(held) if "/mask/" in name]


def test_every_flipped_bit_of_every_mask_is_noticed(saved: Path, tmp_path: Path) -> None:
    """Those beyond the last neuron too; the record vouches for the file, so the network itself has to speak."""
    found = masks(load_file(saved / TENSORS))
    assert len(found) == 3
    for name, bits in found:
        for place in range(len(bits)):
            flipped = bits.copy()
            flipped[place] ^= 1
            packed = torch.from_numpy(np.packbits(flipped))
            change = partial(_put, name, packed)
            code = refusal(forged(saved, tmp_path / "flipped", change))
            assert code in {"forgotten", "tensor-mismatch"}, (name, place)


def test_two_swapped_bits_are_noticed(saved: Path, tmp_path: Path) -> None:
    """As many neurons, but others."""
    for name, bits in masks(load_file(saved / TENSORS)):
        for one, other in zip(bits.nonzero()[0], (bits == 0).nonzero()[0], strict=False):
            swapped = bits.copy()
            swapped[[one, other]] = bits[[other, one]]
            packed = torch.from_numpy(np.packbits(swapped))
            change = partial(_put, name, packed)
            code = refusal(forged(saved, tmp_path / "swapped", change))
            assert code in {"forgotten", "tensor-mismatch"}


def flip(held: Tensors) -> None:
    name = next(name for name in held if "/mask/" in name)
    held[name] = held[name] ^ 16


def test_without_a_signature_any_change_is_noticed(saved: Path, tmp_path: Path) -> None:
    assert refusal(forged(saved, tmp_path / "unsigned", flip, signed=False)) == "weights-mismatch"


def nudge(name: str) -> Callable[[Tensors], None]:
    def change(held: Tensors) -> None:
        held[name] = held[name] * (1 + 1e-15)

    return change


CHANGES: dict[str, tuple[Callable[[Tensors], Any], set[str]]] = {
    "a shared weight": (nudge("union/up.weight"), {"forgotten"}),
    "a head": (nudge("1/own/head.weight"), {"forgotten"}),
    "a task's normalisation": (nudge("0/own/norm.bias"), {"forgotten"}),
    "a head of other precision": (
        lambda h: h.update({"0/own/head.bias": h["0/own/head.bias"].float()}),
        {"forgotten"},
    ),
    "a head of other shape": (
        lambda h: h.update({"0/own/head.bias": h["0/own/head.bias"][:1].clone()}),
        {"forgotten"},
    ),
    "a head of integers": (
        lambda h: h.update({"0/own/head.bias": h["0/own/head.bias"].long()}),
        {"tensor-mismatch"},
    ),
    "a head of more axes": (
        lambda h: h.update({"0/own/head.bias": h["0/own/head.bias"][None]}),
        {"tensor-mismatch"},
    ),
    "a weight of other precision": (
        lambda h: h.update({"union/up.weight": h["union/up.weight"].half()}),
        {"not-canonical"},
    ),
    "a mask of floats": (
        lambda h: h.update({"0/mask/up": h["0/mask/up"].float()}),
        {"tensor-mismatch"},
    ),
    "a longer mask": (
        lambda h: h.update({"0/mask/up": h["0/mask/up"].repeat(2)}),
        {"tensor-mismatch"},
    ),
    "no mask": (lambda h: h.pop("2/mask/up"), {"missing-tensor"}),
    "no answer": (lambda h: h.pop("0/said/0"), {"missing-tensor"}),
    "no weight": (lambda h: h.pop("union/up.weight"), {"missing-tensor"}),
    "one more": (lambda h: h.update({"3/mask/up": h["2/mask/up"].clone()}), {"missing-tensor"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_tensors_are_refused(change: str, saved: Path, tmp_path: Path) -> None:
    changed, codes = CHANGES[change]
    assert refusal(forged(saved, tmp_path / "changed", changed)) in codes


def test_a_truncated_file_is_refused(saved: Path, tmp_path: Path) -> None:
    directory = forged(saved, tmp_path / "short", lambda _: None)
    content = (directory / TENSORS).read_bytes()
    (directory / TENSORS).write_bytes(content[:-8])
    assert refusal(directory) == "weights-mismatch"
    record = json.loads((directory / RECORD).read_text())
    record["tensors"] = hashlib.sha256(content[:-8]).hexdigest()
    (directory / RECORD).write_text(json.dumps(record))
    assert refusal(directory) == "bad-weights"


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("schema_version", 2, "schema-version"),
        ("head", 3, "bad-value"),
        ("extra", 1, "unknown-key"),
    ],
)
def test_other_records_are_refused(
    key: str, value: object, code: str, saved: Path, tmp_path: Path
) -> None:
    directory = forged(saved, tmp_path / "record", lambda _: None)
    record = json.loads((directory / RECORD).read_text()) | {key: value}
    (directory / RECORD).write_text(json.dumps(record))
    assert refusal(directory) == code


def test_what_is_not_there_is_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError):
        load_master(tmp_path)
    directory = forged(saved, tmp_path / "alone", lambda _: None)
    (directory / TENSORS).unlink()
    with pytest.raises(SpecError):
        load_master(directory)


def test_what_cannot_be_saved_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_master(stream("block").master, tmp_path / "one")
    before = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}

    def full(_: object) -> str:
        raise OSError("no space left")

    monkeypatch.setattr("fxgrow.continual.storage.sha256", full)
    for place in ("one", "two"):
        with pytest.raises(OSError, match="no space"):
            save_master(stream("block").master, tmp_path / place)
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()} == before


def test_foreign_directories_are_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(RunError, match="neither empty nor a run"):
        save_master(stream("block").master, tmp_path)


def test_a_master_of_no_tasks_is_one_too(tmp_path: Path) -> None:
    save_master(master("block"), tmp_path / "none")
    loaded = load_master(tmp_path / "none")
    assert isinstance(loaded, Master) and not loaded.tasks
    assert torch.equal(loaded.union.module(images()), master("block").union.module(images()))
    assert loaded.learn("a", data("a"), data("a"), classes=2).task == "a"
