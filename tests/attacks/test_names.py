"""Code in everything that fx writes into Python source: names, keywords, paths, notes, defaults, strings."""

import json
from pathlib import Path
from typing import Any

import pytest

from fxgrow.spec import load
from tests.attacks.attacking import (
    CANARY,
    PAYLOAD,
    Attack,
    Json,
    X,
    assert_fails,
    call,
    ids,
    module,
    node,
    tensor,
    written,
)
from tools.fuzzing.bases import Base


def named(old: str, new: str) -> Any:
    """Renames a node, where it is used too."""

    def change(config: Json) -> None:
        before, after = json.dumps({"node": old}), json.dumps({"node": new})
        config["nodes"] = json.loads(json.dumps(config["nodes"]).replace(before, after))
        node(config, old)["name"] = new

    return change


def input_named(name: str) -> Any:
    def change(config: Json) -> None:
        config["nodes"][0]["target"] = config["inputs"][0]["name"] = name

    return change


def reading_an_earlier_name(config: Json) -> None:
    input_named("early")(config)
    config["nodes"].insert(0, {"name": "early", "op": "get_attr", "target": "offset"})


def hiding_a_function(config: Json) -> None:
    input_named("len")(config)
    call("builtins.len", X)(config)


ATTACKS = (
    Attack(
        "node name runs a statement", named("act", f"a={PAYLOAD};b"), "bad-name", "nodes[3].name"
    ),
    Attack(
        "node name ends a line",
        named("act", f"a\n    {PAYLOAD}\n    b"),
        "bad-name",
        "nodes[3].name",
    ),
    Attack("node name is dunder", named("act", "__builtins__"), "bad-name", "nodes[3].name"),
    Attack("node name is a keyword", named("act", "lambda"), "bad-name", "nodes[3].name"),
    Attack("node name looks like another letter", named("act", "ﬁx"), "bad-name", "nodes[3].name"),
    Attack("node name hides Ellipsis", named("act", "Ellipsis"), "bad-name", "nodes[3].name"),
    Attack("node name hides a builtin", named("act", "len"), "bad-name", "nodes[3].name"),
    Attack("node name without end", named("act", "a" * 10**6), "too-large", "nodes.3.name"),
    Attack(
        "input runs code as its default", input_named(f"x={PAYLOAD}"), "bad-name", "nodes[0].name"
    ),
    Attack("input swallows all arguments", input_named("**x"), "bad-name", "nodes[0].name"),
    Attack(
        "input read after a node took its name",
        reading_an_earlier_name,
        "duplicate-name",
        "nodes[1].target",
    ),
    Attack("input hides a function", hiding_a_function, "bad-name", "nodes[0].target"),
    Attack(
        "keyword runs code",
        call("torch.flatten", X, kwargs={f"a={PAYLOAD}, b": 1}),
        "bad-name",
        "nodes[flatten]",
    ),
    Attack(
        "keyword is dunder",
        call("torch.flatten", X, kwargs={"__class__": 1}),
        "bad-name",
        "nodes[flatten]",
    ),
    Attack(
        "module path ends the string that fx puts it in",
        lambda c: module(c, "conv").update(name=f'a" + {PAYLOAD} + "'),
        "bad-name",
        "modules[0].name",
    ),
    Attack(
        "module path through a dunder",
        lambda c: module(c, "conv").update(name="__class__"),
        "bad-name",
        "modules[0].name",
    ),
    Attack(
        "tensor replaces a method of its module",
        lambda c: tensor(c, "inner.scale").update(name="inner.forward"),
        "bad-name",
        "parameters[3].name",
    ),
    Attack(
        "call_module path runs code",
        call(f"conv.x); {PAYLOAD}; (", X, op="call_module"),
        "unknown-target",
        "nodes[flatten]",
    ),
    Attack(
        "get_attr path runs code",
        call(f"a;{PAYLOAD}", op="get_attr"),
        "unknown-target",
        "nodes[flatten]",
    ),
    Attack(
        "a path whose prefixes take quadratic time",
        call("a" + ".a" * 10**5, X, op="call_module"),
        "too-large",
        "nodes.5.target",
    ),
    Attack(
        "device string runs code",
        call("torch.flatten", {"device": f"cpu'); {PAYLOAD}"}),
        "bad-value",
        "nodes.5.args.0.device.device",
    ),
    Attack(
        "device number wraps around",
        call("torch.flatten", {"device": "cuda:200"}),
        "bad-value",
        "nodes.5.args.0.device.device",
    ),
    Attack(
        "provenance ends the comment that fx puts it in",
        lambda c: node(c, "flatten").update(provenance={"rule": f'""";{PAYLOAD};"""'}),
        "bad-value",
        "nodes.5.provenance.rule",
    ),
    Attack(
        "width of a provenance ends the comment",
        lambda c: node(c, "flatten").update(
            provenance={"rule": "a", "width": f'""";{PAYLOAD};"""'}
        ),
        "bad-value",
        "nodes.5.provenance.width",
    ),
)


@pytest.mark.parametrize("attack", ATTACKS, ids=ids(ATTACKS))
def test_it_is_refused(
    attack: Attack, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FX_GRAPH_SHOW_META", "1")  # fx writes the notes on nodes into the source
    assert_fails(attack, base, tmp_path / "hostile")


def test_the_canary_sings() -> None:
    exec(PAYLOAD)
    assert CANARY.exists()


@pytest.mark.parametrize(
    "text",
    [
        f"'); {PAYLOAD}; ('",
        f'"""{PAYLOAD}"""',
        f"{{{PAYLOAD}}}",
        "\\",
        "\\'",
        f"\n{PAYLOAD}",
        "\N{LINE SEPARATOR}",
    ],
)
def test_strings_in_arguments_stay_strings(text: str, base: Base, tmp_path: Path) -> None:
    """Also in the default of an input, which Python evaluates when the source is loaded, and as keys."""

    def change(config: Json) -> None:
        config["nodes"][0]["args"] = [{"mapping": {text: {"tuple": [text]}}}]
        call("torch.flatten", X, text)(config)

    model = load(written(base, tmp_path / "odd", change))
    assert not CANARY.exists()
    assert model.forward.__defaults__ == ({text: (text,)},)
    assert next(n for n in model.graph.nodes if n.name == "flatten").args[1] == text
