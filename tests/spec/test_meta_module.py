"""Architectures without weights."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx

from fxgrow.errors import SpecError
from fxgrow.spec import describe, read_spec
from fxgrow.spec.constructor import container
from fxgrow.spec.fingerprint import fingerprint
from fxgrow.spec.meta_module import meta_example_inputs, meta_module, write_architecture


def test_shapes_without_memory(tmp_path: Path, net: fx.GraphModule, inputs: tuple[Tensor]) -> None:
    spec = write_architecture(tmp_path / "bare", describe(net, inputs))
    assert [path.name for path in (tmp_path / "bare").iterdir()] == ["config.json"]
    assert read_spec(tmp_path / "bare") == spec
    bare = meta_module(spec)
    assert all(tensor.is_meta for tensor in bare.state_dict().values())
    assert bare(*meta_example_inputs(spec)).shape == net(*inputs).shape
    assert bare.get_parameter("b.weight") is bare.get_parameter("a.weight"), "ties are kept"


def test_petabytes_cost_nothing(net: fx.GraphModule) -> None:
    wide = fx.GraphModule({"linear": torch.nn.Linear(2**20, 2**20, device="meta")}, _call("linear"))
    spec = describe(wide, (torch.empty(1, 2**20, device="meta"),))
    assert meta_module(spec).get_parameter("linear.weight").numel() == 2**40


def _call(name: str) -> fx.Graph:
    graph = fx.Graph()
    graph.output(graph.call_module(name, (graph.placeholder("x"),)))
    return graph


def test_what_is_built_is_what_the_file_says(
    tmp_path: Path, net: fx.GraphModule, inputs: tuple[Tensor]
) -> None:
    """An entry that the graph does not use is no part of the architecture, whatever the fingerprint covers."""
    spec = describe(net, inputs)
    extra = spec.model_copy(update={"modules": (*spec.modules, container("spare"))})
    with pytest.raises(SpecError) as caught:
        meta_module(extra.model_copy(update={"fingerprint": fingerprint(extra)}))
    assert caught.value.code == "not-canonical"


def test_an_architecture_replaces_one_but_no_weights(
    tmp_path: Path, saved: Path, net: fx.GraphModule, inputs: tuple[Tensor]
) -> None:
    spec = describe(net, inputs)
    write_architecture(tmp_path / "bare", spec)
    write_architecture(tmp_path / "bare", spec)
    before = json.loads((saved / "config.json").read_text())
    with pytest.raises(SpecError) as caught:
        write_architecture(saved, spec)
    assert caught.value.code == "foreign-directory"
    assert json.loads((saved / "config.json").read_text()) == before
