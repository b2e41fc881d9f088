"""One damaged spec per rule, with the code and the path that it is refused with."""

import json
import re
from typing import Any

import pytest

from fxgrow.errors import SpecError
from fxgrow.spec import load, read_spec

Json = dict[str, Any]


def node(data: Json, name: str) -> Json:
    return next(item for item in data["nodes"] if item["name"] == name)


def entry(data: Json, kind: str, name: str) -> Json:
    return next(item for item in data[kind] if item["name"] == name)


def put(*path: str | int, value: Any) -> Any:
    """A change that sets the value at ``path``."""

    def change(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return change


def call(target: str, *args: Any, op: str = "call_function", kwargs: Json | None = None) -> Any:
    """A change that makes the node ``flatten`` call something else."""

    def change(data: Json) -> None:
        node(data, "flatten").update(op=op, target=target, args=list(args), kwargs=kwargs or {})

    return change


X = {"node": "x"}
CHANGED = "fingerprint-mismatch"
CASES: dict[str, tuple[Any, str, str]] = {
    # names
    "node name is source": (lambda d: put("name", value="x=1;y")(d["nodes"][1]), "bad-name", "nodes[1].name"),
    "node name is a keyword": (lambda d: put("name", value="lambda")(d["nodes"][1]), "bad-name", "nodes[1].name"),
    "node named torch": (lambda d: put("name", value="torch")(d["nodes"][1]), "bad-name", "nodes[1].name"),
    "input named self": (put("nodes", 0, "target", value="self"), "bad-name", "nodes[0].name"),
    "variadic input": (put("nodes", 0, "target", value="*args"), "bad-name", "nodes[0].name"),
    "two nodes of one name": (put("nodes", 1, "name", value="x"), "duplicate-name", "nodes[1].name"),
    "two modules of one name": (put("modules", 1, "name", value="conv"), "duplicate-name", "modules[1].name"),
    "module hides forward": (put("modules", 0, "name", value="forward"), "bad-name", "modules[0].name"),
    "module name ends a string": (put("modules", 0, "name", value='a");("'), "bad-name", "modules[0].name"),
    "keyword is source": (call("torch.flatten", X, kwargs={"a=1, b": 2}), "bad-name", "nodes[flatten]"),
    # references
    "unknown node": (call("torch.flatten", {"node": "nobody"}), "unknown-node", "nodes[flatten]"),
    "later node": (call("torch.flatten", {"node": "clamp"}), "unknown-node", "nodes[flatten]"),
    "cycle": (call("torch.flatten", {"tuple": [{"node": "flatten"}]}), "unknown-node", "nodes[flatten]"),
    # targets
    "os.system": (call("os.system", "true"), "unknown-target", "nodes[flatten].target"),
    "eval": (call("builtins.eval", "1"), "unknown-target", "nodes[flatten].target"),
    "harmful method": (call("apply_", X, op="call_method"), "unknown-target", "nodes[flatten]"),
    "method on a literal": (call("expand", "text", op="call_method"), "bad-call", "nodes[flatten]"),
    "method on nothing": (call("sin", op="call_method"), "bad-call", "nodes[flatten]"),
    "dunder by getattr": (call("builtins.getattr", X, "__class__"), "unknown-target", "nodes[flatten]"),
    "attribute by node": (call("builtins.getattr", X, X), "unknown-target", "nodes[flatten]"),
    "getattr with default": (call("builtins.getattr", X, "shape", 1), "bad-call", "nodes[flatten]"),
    "getattr of a literal": (call("builtins.getattr", "text", "shape"), "bad-call", "nodes[flatten]"),
    "operator short of an operand": (call("operator.add", X), "bad-call", "nodes[flatten]"),
    "assignment short of a value": (call("operator.setitem", X, 0), "bad-call", "nodes[flatten]"),
    "elements of a literal assigned": (call("operator.setitem", 1, 0, X), "bad-call", "nodes[flatten]"),
    "literal written in place": (call("operator.iadd", 1, X), "bad-call", "nodes[flatten]"),
    "module not there": (call("nothing", X, op="call_module"), "unknown-target", "nodes[flatten]"),
    "module is a container": (call("inner", X, op="call_module"), "unknown-target", "nodes[flatten]"),
    "tensor not there": (call("conv", op="get_attr"), "unknown-target", "nodes[flatten]"),
    "get_attr with arguments": (call("offset", X, op="get_attr"), "bad-call", "nodes[flatten]"),
    "placeholder with two defaults": (put("nodes", 0, "args", value=[1, 2]), "bad-call", "nodes[0]"),
    # graph and inputs
    "no output": (lambda d: d["nodes"].pop(), "bad-graph", "nodes"),
    "no nodes": (put("nodes", value=[]), "bad-graph", "nodes"),
    "output target": (lambda d: put("target", value="x")(node(d, "output")), "unknown-target", "nodes[output]"),
    "output of nothing": (lambda d: put("args", value=[])(node(d, "output")), "bad-call", "nodes[output]"),
    "no inputs": (put("inputs", value=[]), "bad-input", "inputs"),
    "other input": (put("inputs", 0, "name", value="y"), "bad-input", "inputs"),
    # modules and tensors
    "class off the list": (put("modules", 0, "type", value="torch.nn.DataParallel"), "unknown-class", "modules[0]"),
    "class by function": (put("modules", 0, "type", value="torch.nn.init.zeros_"), "unknown-class", "modules[0]"),
    "module without parent": (put("modules", 0, "name", value="far.conv"), "missing-parent", "modules[0]"),
    "module in a leaf": (put("modules", 1, "name", value="conv.bn"), "missing-parent", "modules[1]"),
    "tensor without parent": (put("parameters", 0, "name", value="far.w"), "missing-parent", "parameters[far.w]"),
    "tie to nothing": (put("parameters", 0, "tied_to", value="zzz"), "bad-tie", "parameters[conv.weight]"),
    "tie of other shape": (put("parameters", 1, "tied_to", value="conv.weight"), "bad-tie", "parameters[bn.weight]"),
    # changed, but consistent
    "other stride": (put("modules", 0, "config", "stride", value={"tuple": [2, 2]}), CHANGED, "fingerprint"),
    "other constant": (call("torch.flatten", {"node": "adaptive_avg_pool2d"}, 2), CHANGED, "fingerprint"),
    "untied": (lambda d: entry(d, "parameters", "b.weight").pop("tied_to"), CHANGED, "fingerprint"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "code", "path"), CASES.values(), ids=CASES.keys())
def test_a_damaged_spec_is_refused(damage: Any, change: Any, code: str, path: str) -> None:
    directory = damage(change)
    names = [item["name"] for item in json.loads((directory / "config.json").read_text())["nodes"]]
    path = re.sub(r"nodes\[([a-z]+)\]", lambda match: f"nodes[{names.index(match[1])}]", path)
    with pytest.raises(SpecError) as caught:
        read_spec(directory)
    assert (caught.value.code, caught.value.path) == (code, path)
    with pytest.raises(SpecError):
        load(directory)
