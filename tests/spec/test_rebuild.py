"""What only shows when modules are built: specs with a right fingerprint whose parts do not fit together."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fxgrow.errors import SpecError
from fxgrow.spec.arguments import DTYPES
from fxgrow.spec.load import parse_spec
from fxgrow.spec.rebuild import rebuild_module

Json = dict[str, Any]


def entry(data: Json, kind: str, name: str) -> Json:
    return next(item for item in data[kind] if item["name"] == name)


def drop(kind: str, name: str) -> Any:
    return lambda data: data[kind].remove(entry(data, kind, name))


def update(kind: str, which: str, **fields: Any) -> Any:
    return lambda data: entry(data, kind, which).update(fields)


def rename(old: str, new: str) -> Any:
    def change(data: Json) -> None:
        data["nodes"] = json.loads(json.dumps(data["nodes"]).replace(f'"{old}"', f'"{new}"'))

    return change


CASES: dict[str, tuple[Any, str]] = {
    "missing parameter": (drop("parameters", "a.weight"), "missing-tensor"),
    "missing buffer": (drop("buffers", "bn.running_var"), "missing-tensor"),
    "shape": (update("parameters", "conv.weight", shape=[4, 3, 1, 1]), "tensor-mismatch"),
    "not made by its module": (
        update("parameters", "inner.scale", name="conv.bias"),
        "tensor-mismatch",
    ),
    "module in the way": (update("parameters", "inner.scale", name="conv"), "duplicate-name"),
    "no owner": (update("parameters", "inner.scale", name="conv.deep.scale"), "missing-parent"),
    "gradient of integers": (
        update("parameters", "inner.scale", dtype="int64", requires_grad=True),
        "tensor-mismatch",
    ),
    "unknown argument": (lambda d: d["modules"][0]["config"].update(color=1), "bad-config"),
    "argument of wrong type": (
        lambda d: d["modules"][0]["config"].update(in_channels="x"),
        "bad-config",
    ),
    "argument out of range": (lambda d: d["modules"][0]["config"].update(groups=0), "bad-config"),
    "argument refers to a node": (
        lambda d: d["modules"][0]["config"].update(groups={"node": "x"}),
        "bad-config",
    ),
    "node name fx would change": (rename("flatten", "input"), "bad-name"),
    "call of a part that is not there": (
        update("nodes", "conv", target="conv.part"),
        "unknown-target",
    ),
}


@pytest.mark.parametrize(("change", "code"), CASES.values(), ids=CASES.keys())
def test_parts_that_do_not_fit(saved: Path, change: Any, code: str) -> None:
    data = json.loads((saved / "config.json").read_text())
    change(data)
    spec = parse_spec(json.dumps(data))
    tensors = {
        item.name: torch.zeros(item.shape, dtype=DTYPES[item.dtype]) for item in spec.tensors
    }
    with pytest.raises(SpecError) as caught:
        rebuild_module(spec, tensors, frozenset())
    assert caught.value.code == code
