"""Every format is loaded back, by other software where there is some, and compared with random weights."""

from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import fx, nn

import fxgrow
from fxgrow.errors import ExportError, SpecError
from fxgrow.export import FORMATS, Options, export
from fxgrow.export import onnx as onnx_exporter
from fxgrow.export.compare import max_difference
from fxgrow.export.source_model import example_tensors, export_source
from fxgrow.spec import describe, load, read_spec, save
from tests.export.conftest import Saved

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pygraphviz = pytest.importorskip("pygraphviz")


@pytest.mark.parametrize("name", ["net", "words"])
def test_onnx_runs_elsewhere(saved: Saved, tmp_path: Path, name: str) -> None:
    done = export(saved(name), "onnx", tmp_path / "net.onnx")
    assert done.check.error is not None
    assert done.check.error <= 1e-5
    assert "any size" in done.check.words
    source = export_source(saved(name))
    session = onnxruntime.InferenceSession(
        str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"]
    )
    assert [item.name for item in session.get_inputs()] == [
        item.name for item in source.spec.inputs
    ]
    assert session.get_modelmeta().custom_metadata_map == {
        "fxgrow.fingerprint": source.spec.fingerprint
    }
    inputs = source.resized(5)
    found = session.run(
        None,
        {item.name: each.numpy() for item, each in zip(session.get_inputs(), inputs, strict=True)},
    )
    assert (
        max_difference(
            example_tensors(source.run(inputs)), [torch.from_numpy(each) for each in found]
        )
        < 1e-5
    )
    assert list(tmp_path.iterdir()) == [tmp_path / "net.onnx"]


@pytest.mark.parametrize("name", ["net", "words", "odd"])
def test_pt2_is_loaded_back(saved: Saved, tmp_path: Path, name: str) -> None:
    done = export(saved(name), "pt2", tmp_path / "net.pt2")
    source = export_source(saved(name))
    inputs = source.resized(4)
    found = torch.export.load(tmp_path / "net.pt2").module()(*inputs)
    assert (
        max_difference(example_tensors(source.run(inputs)), example_tensors(found))
        <= (done.check.error or 0) + 1e-6
    )


class Fixed(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, 6).cumsum(1)


@pytest.fixture
def fixed(tmp_path: Path) -> Path:
    net = fx.symbolic_trace(Fixed().eval())
    save(net, tmp_path / "fixed", describe(net, (torch.empty(2, 2, 3),)))
    return tmp_path / "fixed"


def test_a_batch_that_is_fixed_is_said_so(fixed: Path, tmp_path: Path) -> None:
    done = export(fixed, "pt2", tmp_path / "a.pt2")
    assert done.check.words.startswith("takes inputs of 2x2x3 only")
    with pytest.raises(ExportError, match="a batch of any size") as caught:
        export(fixed, "pt2", tmp_path / "b.pt2", options=Options(dynamic_batch=True))
    assert caught.value.code == "not-exportable"
    assert not (tmp_path / "b.pt2").exists()


def test_hub_is_a_spec_directory_with_a_card(growth: fxgrow.Growth, tmp_path: Path) -> None:
    export(growth, "hub", tmp_path / "hub", options=Options(license="mit"))
    assert sorted(path.name for path in (tmp_path / "hub").iterdir()) == [
        "README.md", "config.json", "model.py", "model.safetensors",
    ]  # fmt: skip
    assert read_spec(tmp_path / "hub").fingerprint == growth.spec.fingerprint
    x = torch.randn(2, 1, 6, 6)
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "hub")(x), growth.graph_module.eval()(x))
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "license: mit" in card
    assert "Growth step 1 by Firefly" in card
    assert all(change.width in card for change in growth.spec.history[0].widths)


def test_pictures(growth: fxgrow.Growth, saved: Saved, tmp_path: Path) -> None:
    for kind in ("dot", "svg", "png"):
        export(growth, kind, tmp_path / f"net.{kind}")
    drawing = pygraphviz.AGraph(str(tmp_path / "net.dot"))
    assert len(drawing.nodes()) == len(growth.spec.nodes)
    colors = {node.attr["fillcolor"] for node in drawing.nodes()}
    assert {"#c8e6c9", "#ffcc80"} <= colors  # grown, inserted
    change = next(change for change in growth.spec.history[0].widths if change.split + change.new)
    assert f"{change.before} -> {change.after} neurons" in (
        tmp_path / "net.dot"
    ).read_text().replace("\\\n", "")
    titles = ElementTree.fromstring((tmp_path / "net.svg").read_text()).iter(
        "{http://www.w3.org/2000/svg}title"
    )
    assert {node.name for node in growth.spec.nodes} <= {title.text for title in titles}
    export(saved("resnet"), "dot", tmp_path / "resnet.dot")
    drawing = pygraphviz.AGraph(str(tmp_path / "resnet.dot"))
    block = drawing.get_subgraph("cluster_layer1").get_subgraph("cluster_layer1.0")
    assert {"layer1_0_conv1", "add"} <= set(block.nodes())


@pytest.mark.parametrize(
    ("module", "to"), [("onnx", "onnx"), ("onnxruntime", "onnx"), ("pygraphviz", "svg")]
)
def test_a_missing_extra_is_one_sentence(
    saved: Saved, tmp_path: Path, module: str, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(name: str) -> object:
        if name == module:
            raise ModuleNotFoundError(name=module)
        return import_module(name)

    monkeypatch.setattr("fxgrow.optional.import_module", without)
    with pytest.raises(
        ExportError, match=r"install it with pip install 'fxgrow\[(export|draw)\]'"
    ) as caught:
        export(saved("net"), to, tmp_path / "out")
    assert caught.value.code == "missing-extra"
    assert list(tmp_path.iterdir()) == []


def test_too_many_weights_for_one_onnx_file(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_exporter, "_MAX_FILE_BYTES", 100)
    with pytest.raises(ExportError) as caught:
        export(saved("net"), "onnx", tmp_path / "net.onnx")
    assert caught.value.code == "file-limit"


def test_what_is_there_is_kept(saved: Saved, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    cases = [("file", "python", False), ("folder", "hub", False), ("folder", "hub", True), ("folder", "python", True),
             ("link", "python", True), ("file", "hub", True)]  # fmt: skip
    for name, to, force in cases:
        with pytest.raises(ExportError) as caught:
            export(saved("net"), to, tmp_path / name, force=force)
        assert caught.value.code == ("foreign-path" if force else "path-exists")
    assert (
        (tmp_path / "file").read_text() == (tmp_path / "folder" / "thesis.tex").read_text() == "x"
    )
    assert len(list(tmp_path.iterdir())) == 3


def test_force_replaces_an_earlier_export(saved: Saved, tmp_path: Path) -> None:
    for name in ("net", "odd"):
        export(saved(name), "hub", tmp_path / "hub", force=True)
        export(saved(name), "python", tmp_path / "net.py", force=True)
        assert read_spec(tmp_path / "hub") == read_spec(saved(name))
        assert read_spec(saved(name)).fingerprint in (tmp_path / "net.py").read_text()
    assert len(list(tmp_path.iterdir())) == 2


def test_words_that_mean_nothing(saved: Saved, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="onnx") as caught:
        export(saved("net"), "onxx", tmp_path / "out")
    assert caught.value.code == "unknown-format"
    with pytest.raises(ExportError) as caught:
        export(saved("net"), "hub", tmp_path / "out", options=Options(license="mit\nx: y"))
    assert caught.value.code == "bad-license"
    assert list(tmp_path.iterdir()) == []


def test_a_changed_module_has_no_spec(saved: Saved, tmp_path: Path) -> None:
    net = load(saved("net"))
    net.conv = nn.Conv2d(3, 4, 1, bias=False)
    with pytest.raises(SpecError) as caught:
        export(net, "python", tmp_path / "net.py")
    assert caught.value.code == "stale-spec"


def test_every_format_has_its_test() -> None:
    assert set(FORMATS) == {"onnx", "pt2", "hub", "python", "dot", "svg", "png"}
