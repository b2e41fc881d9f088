"""Every example runs as a program, and prints what it gained."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

# What each prints at least, and the packages that it needs.
PRINTED = {
    "plain_loop": (("4 neurons: ", "grew to 16 hidden neurons", "grown: "), ()),
    "lightning_fit": (("grown from 4 to 16 neurons, loaded: ",), ("lightning",)),
    "hf_trainer": (("n_inner 16 -> 36, loaded by",), ("transformers", "accelerate")),
    "accelerate_loop": (("grown from 4 to 16 neurons: ",), ("accelerate",)),
}


def test_every_example_is_tried() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == PRINTED.keys()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PRINTED)
def test_an_example_runs(
    name: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sentences, packages = PRINTED[name]
    for package in packages:
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    for sentence in sentences:
        assert sentence in printed
    assert not list(tmp_path.iterdir()), "it leaves nothing where it was started"


@pytest.mark.parametrize("name", PRINTED)
def test_an_example_is_short(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 60
