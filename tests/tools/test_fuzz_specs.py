"""A few hundred mutants of a fixed seed; the full run is ``make fuzz``."""

import random
from pathlib import Path

import pytest

from fxgrow.errors import SpecError
from tools.fuzz_specs import STAGES, judge, report, run_chunk, stage_of
from tools.fuzzing.bases import bases
from tools.fuzzing.mutations import MUTATIONS, Mutant, mutant


def test_a_few_hundred_mutants_load_or_are_refused() -> None:
    tally = run_chunk(bases(0), seed=0, first=0, count=300)
    result = report(tally, 0, 0, 300, 0.0)
    assert not any(result["must_be_zero"].values()), tally.failures
    assert result["loaded_and_described_again"] > 60
    assert set(STAGES.values()) <= set(tally.refused_at)
    assert set(MUTATIONS) <= set(tally.mutations)


def test_a_mutant_is_always_the_same() -> None:
    base = bases(0)[0]
    first, again = (mutant(base, random.Random("0:7")) for _ in range(2))
    assert first == again


def test_failures_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = bases(0)[3]
    made = mutant(base, random.Random("0:0"))

    def broken(directory: object) -> None:
        raise KeyError(directory)

    monkeypatch.setattr("tools.fuzz_specs.load", broken)
    assert judge(made, tmp_path)[0] == "other exception"
    monkeypatch.setattr("tools.fuzz_specs.load", lambda _: (_ for _ in ()).throw(SpecError("bad-value", "no path")))
    assert judge(Mutant(b"", b"", ()), tmp_path)[0] == "no path"
    assert stage_of(KeyError()) == "reading"
