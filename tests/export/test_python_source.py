"""The source runs in a fresh process without fxgrow and computes the same bits."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import fxgrow
from fxgrow.errors import ExportError
from fxgrow.export import export
from fxgrow.export import python_source as python_source_module
from fxgrow.export.python import python_source
from fxgrow.export.source_model import example_tensors, export_source
from tests.export.conftest import ZOO, Saved

# In isolated mode; whatever wants fxgrow fails.
PROGRAM = """
import importlib.util, sys
from pathlib import Path

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "fxgrow":
            raise ImportError("fxgrow is refused")

sys.meta_path.insert(0, Refuse())
import torch
from safetensors.torch import load_file, save_file
from torch.utils._pytree import tree_leaves

torch.set_num_threads(1)
for folder in map(Path, sys.argv[1:]):
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.Network().eval()
    network.load_state_dict(load_file(folder / "model.safetensors"))
    assert network.state_dict().keys() == load_file(folder / "model.safetensors").keys()
    # Copies lie where torch lays tensors; in the file they lie anywhere, and products round by that.
    inputs = {name: each.clone() for name, each in load_file(folder / "inputs").items()}
    with torch.no_grad():
        outputs = tree_leaves(network(*(inputs[name] for name in sorted(inputs))))
    save_file({str(place): each.contiguous() for place, each in enumerate(outputs)}, folder / "outputs")
"""


def exported(model: object, folder: Path) -> list[torch.Tensor]:
    """A hub directory with the inputs beside it, and what it has to compute."""
    export(model, "hub", folder)
    source = export_source(model)
    save_file(
        {str(place): each for place, each in enumerate(source.example_inputs)}, folder / "inputs"
    )
    return example_tensors(source.run(source.example_inputs))


def test_a_fresh_process_without_fxgrow_computes_the_same_bits(
    saved: Saved, growth: fxgrow.Growth, tmp_path: Path
) -> None:
    wanted = {name: exported(saved(name), tmp_path / name) for name in ZOO}
    wanted["grown"] = exported(growth, tmp_path / "grown")
    folders = [str(tmp_path / name) for name in wanted]
    subprocess.run([sys.executable, "-I", "-c", PROGRAM, *folders], check=True, timeout=90)
    for name, outputs in wanted.items():
        found = load_file(tmp_path / name / "outputs")
        assert len(found) == len(outputs)
        for place, output in enumerate(outputs):
            assert output.abs().max() > 0
            assert torch.equal(found[str(place)], output), name


def test_the_source_is_clean_for_ruff(saved: Saved, growth: fxgrow.Growth, tmp_path: Path) -> None:
    for name in ZOO:
        export(saved(name), "python", tmp_path / f"{name}.py")
    export(growth, "python", tmp_path / "grown.py")
    ruff = [sys.executable, "-m", "ruff"]
    for command in (
        ["check", "--isolated", "--no-cache"],
        ["format", "--isolated", "--no-cache", "--check"],
    ):
        done = subprocess.run(
            [*ruff, *command, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout


def test_assignments_to_elements_are_written_as_such(
    saved: Saved, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is printed while the range of its indices is looked for."""
    export(saved("filled"), "python", tmp_path / "filled.py")
    source = (tmp_path / "filled.py").read_text()
    assert "y[:, 1:4] = 1.0\n" in source and "x[places] = y\n" in source
    assert "setitem" not in source
    assert capfd.readouterr() == ("", "")


def test_frozen_parameters_and_ties_come_back(saved: Saved, tmp_path: Path) -> None:
    for name in ("odd", "words", "net"):
        export(saved(name), "python", tmp_path / f"{name}.py")
        spec = importlib.util.spec_from_file_location(name, tmp_path / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        expected = dict(
            export_source(saved(name)).graph_module.named_parameters(remove_duplicate=False)
        )
        actual = dict(module.Network().named_parameters(remove_duplicate=False))
        assert {name: each.requires_grad for name, each in actual.items()} == {
            name: each.requires_grad for name, each in expected.items()
        }
        assert len({id(each) for each in actual.values()}) == len(
            {id(each) for each in expected.values()}
        )


def test_a_source_that_computes_something_else_is_not_written(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        python_source_module,
        "python_source",
        lambda *args: python_source(*args).replace(
            "torch.flatten(x, 1)", "torch.flatten(x, 1) * 2"
        ),
    )
    with pytest.raises(ExportError) as caught:
        export(saved("resnet"), "python", tmp_path / "out.py")
    assert caught.value.code == "export-differs"
    assert list(tmp_path.iterdir()) == []
