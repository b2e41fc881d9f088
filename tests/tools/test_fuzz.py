"""A few dozen mutants of every kind and of a fixed seed; the full run is ``make fuzz``."""

import random
from pathlib import Path
from typing import Any

import pytest

from fxgrow.errors import SpecError
from tools.fuzz import report, run_chunk
from tools.fuzzing import specs
from tools.fuzzing.bases import bases
from tools.fuzzing.kinds import KINDS, Kind
from tools.fuzzing.mutations import MUTATIONS, Mutant, mutant
from tools.fuzzing.recipes import CANARY
from tools.fuzzing.specs import STAGES, judge, stage_of
from tools.fuzzing.verdicts import LOADED, Verdict, verdict_of


def test_a_few_hundred_specs_load_or_are_refused() -> None:
    tally = run_chunk(KINDS["specs"], bases(0), seed=0, first=0, count=300)
    result = report(tally, "specs", 0, 0, 300, 0.0)
    assert not any(result["must_be_zero"].values()), tally.failures
    assert result["loaded_and_described_again"] > 60
    assert set(STAGES.values()) <= set(tally.refused_at)
    assert set(MUTATIONS) <= set(tally.mutations)


@pytest.mark.parametrize("name", sorted(KINDS.keys() - {"specs"}))
def test_some_of_every_kind_are_read_or_refused(name: str) -> None:
    kind = KINDS[name]
    tally = run_chunk(kind, kind.bases(0), seed=0, first=0, count=40)
    result = report(tally, name, 0, 0, 40, 0.0)
    # Seconds are measured by ``make fuzz``: here, other tests run beside this one.
    faults = {what: n for what, n in result["must_be_zero"].items() if not what.startswith("over")}
    assert not any(faults.values()), tally.failures
    assert tally.counts["refused"] > 5
    assert tally.counts["loaded"] > 0


@pytest.mark.parametrize("name", KINDS)
def test_what_is_sound_is_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in ("specs", "recipes", "genotypes"):
        pytest.skip("their sound files are read by other tests")
    monkeypatch.chdir(tmp_path)
    kind = KINDS[name]
    kind.furnish(tmp_path)
    sound = kind.bases(0)[-1]
    made = kind.mutate(sound, random.Random(0))
    for file, data in _files(name, sound).items():
        made.files[file] = data
    assert kind.judge(made, tmp_path) == LOADED


def _files(name: str, sound: Any) -> dict[str, bytes]:
    import json

    if name == "runs":
        return dict(sound)
    if name == "histories":
        return {
            "first": json.dumps(sound[0]).encode(),
            "config.json": json.dumps(sound[1]).encode(),
        }
    if name == "masters":
        return {
            "master.json": json.dumps(sound.record).encode(),
            "master.safetensors": sound.tensors,
        }
    return {"pictures": {"train/a/0.png": sound}, "archives": {"test_batch": sound}}[name]


@pytest.mark.parametrize("name", KINDS)
def test_a_mutant_is_always_the_same(name: str) -> None:
    base = KINDS[name].bases(0)[0]
    first, again = (KINDS[name].mutate(base, random.Random("0:7")) for _ in range(2))
    assert first == again


def test_failures_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = bases(0)[3]
    made = mutant(base, random.Random("0:0"))

    def broken(directory: object) -> None:
        raise KeyError(directory)

    monkeypatch.setattr(specs, "load", broken)
    assert judge(made, tmp_path).outcome == "other exception"
    monkeypatch.setattr(
        specs, "load", lambda _: (_ for _ in ()).throw(SpecError("bad-value", "no path"))
    )
    assert judge(Mutant(b"", b"", ()), tmp_path).outcome == "no path"
    assert stage_of(KeyError()) == "reading"


def test_verdicts_tell_failures_apart() -> None:
    def fails(error: Exception) -> Any:
        def attempt() -> bool:
            raise error

        return attempt

    assert verdict_of(lambda: True) == LOADED
    assert verdict_of(lambda: False).outcome == "other fingerprint"
    assert verdict_of(fails(SpecError("bad-value", "x", "place"))) == Verdict(
        "refused", "bad-value"
    )
    assert verdict_of(fails(SpecError("bad-value", "x"))).outcome == "no path"
    assert verdict_of(fails(MemoryError("x"))).what.startswith("MemoryError: x (")


def test_code_that_runs_is_a_failure() -> None:
    def judge(made: Mutant, _: Path) -> Verdict:
        Path(CANARY).touch()
        return LOADED

    kind = Kind(lambda _: (0,), lambda base, rng: Mutant(b"", b"", ()), judge)
    tally = run_chunk(kind, (0,), seed=0, first=0, count=3)
    assert tally.counts["code ran"] == 3
    assert report(tally, "x", 0, 0, 3, 0.0)["must_be_zero"]["code ran"] == 3
