"""Every example runs as a program, and prints what it gained."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from torch import distributed

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
LAUNCHED = "data_parallel"

# What each prints at least, and the packages that it needs. What is not the same everywhere is left
# open: accuracies differ by processor, and the text that some learn by the version of Python.
PRINTED = {
    "plain_loop": (("4 neurons: ", "grew to 16 hidden neurons", "grown: "), ()),
    "lightning_fit": (("grown from 4 to 16 neurons, loaded: ",), ("lightning",)),
    "hf_trainer": (("n_inner 16 -> 36, loaded by",), ("transformers", "accelerate")),
    "accelerate_loop": (("grown from 4 to 16 neurons: ",), ("accelerate",)),
    "torchvision_mobilenet": (("5 more, not grown: .* parameters", "5 more, grown: "), ()),
    "gpt": (("not grown: loss", r"moved by \de-0[5-7] in growth to 3 blocks", "\ngrown: loss"), ()),
    # What grew computes what it did: the same loss.
    "grow_to": ((r"small network, 1500 steps: (loss .*)\ngrown to the larger one: \1;",), ()),
    # What was learned first is kept.
    "continual_stream": ((r"firefly: (\S+%) when learned, \1 in the end", "fine-tuning: "), ()),
    "cell_search": ((r"channels inside operations: 20 -> 2\d", "Genotype.normal=", "drawn at"), ()),
    "own_operator": (("without a rule: unknown-operator\n", "grown to 16 [0-9.]+%"), ()),
    "own_method": (("Auto: 3 -> ", "NarrowestFirst: 3 -> 1[78] and 16 -> 1[78] neurons, "), ()),
    LAUNCHED: (("grown to 16, 6 more: ", "the 2 processes have the same weights\n"), ()),
}


def require_printed(name: str, printed: str) -> None:
    for pattern in PRINTED[name][0]:
        assert re.search(pattern, printed), (pattern, printed)


def test_every_example_is_tried() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == PRINTED.keys()


def test_every_example_is_in_the_table() -> None:
    table = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    for name in PRINTED:
        assert f"[`{name}.py`](../examples/{name}.py)" in table


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in PRINTED if name != LAUNCHED])
def test_an_example_runs(
    name: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for package in PRINTED[name][1]:
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    require_printed(name, capsys.readouterr().out)
    assert not list(tmp_path.iterdir()), "it leaves nothing where it was started"


@pytest.mark.skipif(
    not distributed.is_available() or not distributed.is_gloo_available(),
    reason="torch was built without gloo",
)
def test_the_example_of_two_processes_runs(tmp_path: Path) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    result = subprocess.run(
        [sys.executable, *launcher, EXAMPLES / f"{LAUNCHED}.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert result.returncode == 0, result.stderr
    require_printed(LAUNCHED, result.stdout)
    assert not list(tmp_path.iterdir()), "it leaves nothing where it was started"


@pytest.mark.parametrize("name", PRINTED)
def test_an_example_is_short(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 60
