"""Sizes, counts and scores that are no numbers, overflow, or ask for more than there is."""

from pathlib import Path
from typing import Any

import pytest

from tests.attacks.attacking import (
    Attack,
    Change,
    Json,
    assert_fails,
    becomes,
    call,
    config_of,
    ids,
    tensor,
)
from tools.fuzzing.bases import Base

DIGEST = "0" * 64


def shape(name: str, *sizes: Any) -> Change:
    return lambda config: tensor(config, name).update(shape=list(sizes))


def input_shape(*sizes: int) -> Change:
    return lambda config: config["inputs"][0].update(shape=list(sizes))


def grown(**values: Any) -> Change:
    """A growth step with other values."""

    def change(config: Json) -> None:
        step = {
            "parent": DIGEST,
            "method": {"name": "a"},
            "cost_before": config["cost"],
            "cost_after": config["cost"],
        }
        config["history"] = [{**step, **values}]

    return change


def width(**values: Any) -> Change:
    return lambda config: config.update(
        widths=[{"name": "a", "size": 1, "growable": True, **values}]
    )


LSTM = {"input_size": 1, "hidden_size": 1}
STEP = {"width": "a", "before": 1, "after": 2}
LAYER = {"name": "a", "after": "b"}
ATTACKS = (
    Attack(
        "10^14 new neurons to replay",
        grown(widths=[{**STEP, "new": 10**14}]),
        "bad-value",
        "history.0.widths.0.new",
    ),
    Attack(
        "10^14 split neurons",
        grown(widths=[{**STEP, "split": 10**14}]),
        "bad-value",
        "history.0.widths.0.split",
    ),
    Attack(
        "a layer of 10^14",
        grown(layers=[{**LAYER, "neurons": 10**14}]),
        "bad-value",
        "history.0.layers.0.neurons",
    ),
    Attack("10^15 parameters", shape("a.bias", 10**15), "bad-value", "parameters.5.shape.0"),
    Attack("10^14 parameters", shape("a.bias", 10**14), "too-large", "model.safetensors"),
    Attack(
        "a stride that overflows behind a 0",
        shape("a.bias", 0, 2**47, 2**47),
        "bad-value",
        "parameters.5.shape",
    ),
    Attack(
        "more axes than there are", shape("a.bias", *[1] * 33), "too-large", "parameters.5.shape"
    ),
    Attack("negative size", shape("a.bias", -4), "bad-value", "parameters.5.shape.0"),
    Attack("NaN size", shape("a.bias", float("nan")), "bad-json", "config.json"),
    Attack("fractional size", shape("a.bias", 4.0), "bad-value", "parameters.5.shape.0"),
    Attack("true as a size", shape("a.bias", True), "bad-value", "parameters.5.shape.0"),
    Attack("text as a size", shape("a.bias", "4"), "bad-value", "parameters.5.shape.0"),
    Attack("an input that overflows", input_shape(2**47, 2**47), "bad-value", "inputs.0.shape"),
    Attack("an input larger than memory", input_shape(2**33), "too-large", "inputs"),
    Attack(
        "an argument of 65 bits", call("torch.flatten", 2**64), "bad-value", "nodes.5.args.0.int"
    ),
    Attack("negative width", width(size=-1), "bad-value", "widths.0.size"),
    Attack("a width of 10^30 neurons", width(size=10**30), "bad-value", "widths.0.size"),
    Attack("a granule of 10^30 rows", width(granule=10**30), "bad-value", "widths.0.granule"),
    Attack(
        "NaN score",
        grown(layers=[{"name": "a", "after": "b", "score": float("nan")}]),
        "bad-json",
        "config.json",
    ),
    Attack(
        "scores whose sum is infinite",
        grown(widths=[{"width": "a", "before": 1, "after": 2, "scores": [1.7e308, 1.7e308]}]),
        "bad-value",
        "history.0.widths.0.scores.0",
    ),
    Attack(
        "negative cost", lambda c: c["cost"].update(parameters=-1), "bad-value", "cost.parameters"
    ),
    Attack(
        "a parent that is no digest",
        grown(parent="../../etc/passwd"),
        "bad-value",
        "history.0.parent",
    ),
    Attack(
        "a kernel larger than memory",
        config_of("conv", kernel_size={"tuple": [2**40, 2**40]}),
        "bad-config",
        "modules[conv]",
    ),
    Attack(
        "a kernel of 10,000 axes",
        config_of("conv", kernel_size={"list": [3] * 10**4}),
        "bad-config",
        "modules[conv]",
    ),
    Attack("negative groups", config_of("conv", groups=-3), "bad-config", "modules[conv]"),
    Attack("no groups", config_of("conv", groups=0), "bad-config", "modules[conv]"),
    Attack(
        "a billion layers",
        becomes("act", "torch.nn.LSTM", **LSTM, num_layers=10**9),
        "bad-config",
        "modules[act]",
    ),
    Attack(
        "layers in words",
        becomes("act", "torch.nn.LSTM", **LSTM, num_layers="2"),
        "bad-config",
        "modules[act]",
    ),
)


@pytest.mark.parametrize("attack", ATTACKS, ids=ids(ATTACKS))
def test_it_is_refused(attack: Attack, base: Base, tmp_path: Path) -> None:
    assert_fails(attack, base, tmp_path / "hostile")
