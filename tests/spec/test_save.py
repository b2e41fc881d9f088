"""Writing is deterministic and all or nothing, and never touches a directory that is not ours."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from fxgrow.errors import SpecError
from fxgrow.spec import (
    GrowthStep,
    MethodRecord,
    describe,
    load,
    read_spec,
    save,
    spec_of,
    write_spec,
)
from fxgrow.spec.save import state_tensors

FILES = ("config.json", "model.safetensors")


def contents(directory: Path) -> list[bytes]:
    return [(directory / name).read_bytes() for name in FILES]


def test_save_load_save_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    save(load(saved), tmp_path / "again")
    assert contents(tmp_path / "again") == contents(saved)


def test_the_returned_spec_is_the_one_on_disk(
    tmp_path: Path, net: fx.GraphModule, inputs: tuple[Tensor]
) -> None:
    spec = save(net, tmp_path / "deep" / "run", describe(net, inputs))
    assert spec == read_spec(tmp_path / "deep" / "run") == spec_of(load(tmp_path / "deep" / "run"))
    assert sorted(path.name for path in (tmp_path / "deep").rglob("*")) == sorted(["run", *FILES])


def test_tied_tensors_are_stored_once(
    saved: Path, net: fx.GraphModule, inputs: tuple[Tensor]
) -> None:
    state = state_tensors(net, describe(net, inputs))
    assert "a.weight" in state
    assert "b.weight" not in state


def test_a_run_is_replaced_and_its_other_files_stay(
    saved: Path, net: fx.GraphModule, inputs: tuple[Tensor]
) -> None:
    (saved / "report.html").write_text("mine")
    with torch.no_grad():
        net.get_parameter("conv.weight").zero_()
    save(net, saved, describe(net, inputs))
    assert load(saved).get_parameter("conv.weight").abs().sum() == 0
    assert (saved / "report.html").read_text() == "mine"


@pytest.mark.parametrize("kind", ["foreign", "file", "link"])
def test_what_is_not_ours_is_left_alone(
    tmp_path: Path, saved: Path, net: fx.GraphModule, kind: str
) -> None:
    spec, target = read_spec(saved), tmp_path / "target"
    if kind == "foreign":
        target.mkdir()
        (target / "thesis.tex").write_text("x")
    elif kind == "file":
        target.write_text("x")
    else:
        target.symlink_to(saved)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(SpecError) as caught:
        write_spec(target, spec, state_tensors(net, spec))
    assert (
        caught.value.code
        == {"foreign": "foreign-directory", "file": "not-a-file", "link": "symlink"}[kind]
    )
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_failed_write_changes_nothing(saved: Path, net: fx.GraphModule) -> None:
    """The weights are written by the time the spec turns out to hold a NaN."""
    before, spec = contents(saved), read_spec(saved)
    step = GrowthStep(
        parent=spec.fingerprint,
        method=MethodRecord(name="x", settings={"rate": 1.0}),
        cost_before=spec.cost,
        cost_after=spec.cost,
    )
    step.method.settings["rate"] = float("nan")
    with torch.no_grad():
        net.get_parameter("conv.weight").zero_()
    with pytest.raises(SpecError) as caught:
        save(net, saved, spec.model_copy(update={"history": (step,)}))
    assert caught.value.code == "not-finite"
    assert contents(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == ["run"]


def test_a_path_that_cannot_be_made_is_reported(
    tmp_path: Path, saved: Path, net: fx.GraphModule
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SpecError) as caught:
        save(net, tmp_path / "file" / "run", read_spec(saved))
    assert caught.value.code == "unwritable"


def test_a_stop_between_the_two_files_is_found(
    saved: Path, net: fx.GraphModule, inputs: tuple[Tensor]
) -> None:
    old_config = (saved / "config.json").read_bytes()
    with torch.no_grad():
        net.get_parameter("conv.weight").zero_()
    save(net, saved, describe(net, inputs))
    (saved / "config.json").write_bytes(old_config)
    with pytest.raises(SpecError) as caught:
        load(saved)
    assert caught.value.code == "weights-mismatch"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda s: s.pop("conv.weight"), "missing-tensor"),
        (lambda s: s.update(more=torch.zeros(1)), "missing-tensor"),
        (lambda s: s.update({"conv.weight": torch.zeros(1)}), "tensor-mismatch"),
        (lambda s: s.update({"conv.weight": s["conv.weight"].double()}), "tensor-mismatch"),
        (lambda s: s.update({"conv.weight": s["conv.weight"].to("meta")}), "tensor-mismatch"),
    ],
)
def test_the_state_has_to_be_that_of_the_spec(
    tmp_path: Path, saved: Path, net: Any, change: Any, code: str
) -> None:
    spec = read_spec(saved)
    state = state_tensors(net, spec)
    change(state)
    with pytest.raises(SpecError) as caught:
        write_spec(tmp_path / "other", spec, state)
    assert caught.value.code == code
    assert not (tmp_path / "other").exists()


def test_a_changed_module_needs_a_new_spec(
    saved: Path, tmp_path: Path, net: fx.GraphModule
) -> None:
    again = load(saved)
    again.conv = nn.Conv2d(3, 4, 1, bias=False)
    with pytest.raises(SpecError) as caught:
        save(again, tmp_path / "other")
    assert caught.value.code == "stale-spec"
    with pytest.raises(SpecError) as caught:
        save(net, tmp_path / "other")
    assert caught.value.code == "no-spec"


def test_views_of_one_memory_are_saved_apart(tmp_path: Path) -> None:
    root, memory, graph = nn.Module(), torch.arange(6.0), fx.Graph()
    root.a, root.b = nn.Parameter(memory[:3]), nn.Parameter(memory[1:4])
    graph.output((graph.get_attr("a"), graph.get_attr("b")))
    net = fx.GraphModule(root, graph)
    save(net, tmp_path / "run", describe(net, ()))
    a, b = load(tmp_path / "run")()
    assert (a.tolist(), b.tolist()) == ([0, 1, 2], [1, 2, 3])
