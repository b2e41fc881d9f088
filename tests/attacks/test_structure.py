"""Graphs and module trees that do not hang together, or hang together far too much."""

from pathlib import Path

import pytest

from tests.attacks.attacking import (
    Attack,
    Change,
    Json,
    X,
    assert_fails,
    call,
    config_of,
    ids,
    module,
    node,
    tensor,
)
from tools.fuzzing.bases import Base


def more_nodes(count: int, target: str, *args: object) -> Change:
    def change(config: Json) -> None:
        made = [
            {"name": f"more{i}", "op": "call_method", "target": target, "args": list(args)}
            for i in range(count)
        ]
        config["nodes"][-1:-1] = made

    return change


def deep_modules(config: Json) -> None:
    """More modules inside each other than Python recurses."""
    names = ["m" + ".m" * depth for depth in range(1200)]
    config["modules"] += [{"name": name, "type": "torch.nn.Module"} for name in names]


def many_modules(config: Json) -> None:
    config["modules"] = [{"name": "a", "type": "a"}] * (2**15 + 1)


def swapped_tie(config: Json) -> None:
    """The two names of one tensor in the order in which no model has them."""
    del tensor(config, "b.weight")["tied_to"]
    tensor(config, "a.weight")["tied_to"] = "b.weight"
    config["parameters"].reverse()


ATTACKS = (
    Attack("cycle", call("torch.flatten", {"node": "flatten"}), "unknown-node", "nodes[flatten]"),
    Attack(
        "forward reference",
        call("torch.flatten", {"list": [{"node": "clamp"}]}),
        "unknown-node",
        "nodes[flatten]",
    ),
    Attack(
        "nobody",
        call("torch.flatten", {"mapping": {"a": {"node": "no"}}}),
        "unknown-node",
        "nodes[flatten]",
    ),
    Attack(
        "a slice of nobody",
        call("operator.getitem", X, {"slice": [{"node": "no"}, None, None]}),
        "unknown-node",
        "nodes[flatten]",
    ),
    Attack(
        "two nodes of one name",
        lambda c: node(c, "act").update(name="x"),
        "duplicate-name",
        "nodes[3].name",
    ),
    Attack(
        "two outputs",
        lambda c: c["nodes"].insert(3, {**c["nodes"][-1], "name": "o"}),
        "unknown-node",
        "nodes[3]",
    ),
    Attack(
        "two modules of one name",
        lambda c: module(c, "act").update(name="bn"),
        "duplicate-name",
        "modules[2].name",
    ),
    Attack(
        "a module that is a tensor too",
        lambda c: c["parameters"].append({"name": "conv", "shape": [2], "dtype": "float32"}),
        "duplicate-name",
        "parameters[conv]",
    ),
    Attack(
        "a parameter and a buffer of one name",
        lambda c: tensor(c, "offset").update(name="inner.scale"),
        "duplicate-name",
        "parameters[8].name",
    ),
    Attack("deep modules", deep_modules, "too-large", "modules.263.name"),
    Attack(
        "quadratically many reads before writes",
        more_nodes(1000, "add_", X, 1),
        "too-large",
        "nodes",
        sealed=False,
    ),
    Attack("more modules than the limit", many_modules, "too-large", "modules", sealed=False),
    Attack(
        "a module that nobody calls",
        lambda c: c["modules"].append({"name": "extra", "type": "torch.nn.ReLU"}),
        "not-canonical",
        "modules[extra]",
    ),
    Attack(
        "a tensor that nobody reads",
        lambda c: c["parameters"].append({"name": "extra", "shape": [2], "dtype": "float32"}),
        "not-canonical",
        "parameters[8]",
    ),
    Attack(
        "arguments in another spelling",
        config_of("conv", kernel_size=3),
        "not-canonical",
        "modules[conv]",
    ),
    Attack(
        "arguments left out",
        lambda c: module(c, "conv")["config"].pop("dilation"),
        "not-canonical",
        "modules[conv]",
    ),
    Attack(
        "tied to itself",
        lambda c: tensor(c, "a.weight").update(tied_to="a.weight"),
        "bad-tie",
        "parameters[a.weight]",
    ),
    Attack(
        "tied to a tie",
        lambda c: tensor(c, "b.bias").update(shape=[4, 4], tied_to="b.weight"),
        "bad-tie",
        "parameters[b.bias]",
    ),
    Attack(
        "a buffer tied to a parameter",
        lambda c: tensor(c, "offset").update(tied_to="inner.scale"),
        "bad-tie",
        "buffers[offset]",
    ),
    Attack(
        "a tie that learns on one side",
        lambda c: tensor(c, "b.weight").update(requires_grad=False),
        "bad-tie",
        "parameters[b.weight]",
    ),
    Attack("a tie in the wrong order", swapped_tie, "not-canonical", "parameters[1]"),
)


@pytest.mark.parametrize("attack", ATTACKS, ids=ids(ATTACKS))
def test_it_is_refused(attack: Attack, base: Base, tmp_path: Path) -> None:
    assert_fails(attack, base, tmp_path / "hostile")
