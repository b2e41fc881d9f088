"""Strings that a checked spec may hold, made to break out of source, Markdown, YAML or Graphviz."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import fx, nn

from fxgrow.export import export
from fxgrow.export.python.layout import string_code
from fxgrow.export.summary import plain_name
from fxgrow.spec import (
    GrowthStep,
    LayerInsertion,
    MethodRecord,
    WidthChange,
    describe,
    load,
    write_spec,
)
from fxgrow.spec.fingerprint import fingerprint
from fxgrow.spec.save import state_tensors

EVIL = '"""\n\nraise SystemExit(9)\n"""\'\\" | ` <script> {0} ---\n: !!python'


@given(st.text())
def test_a_literal_is_the_string(text: str) -> None:
    assert ast.literal_eval(string_code(text)) == text
    assert string_code(text).isascii()


@given(st.text(alphabet="\"'\\\n`|<>#a"))
def test_plain_words_hold_no_markup(text: str) -> None:
    assert not set(plain_name(text)) & set("\"'\\\n`|<>#")


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Evil text in an assertion's message, a dict's key, a method's name, a width's name."""
    graph = fx.Graph()
    x = graph.placeholder("len")
    f = graph.placeholder("F", default_value=EVIL)
    holds = graph.call_function(torch.is_floating_point, (x,))
    graph.call_function(torch._assert, (holds, EVIL))
    h = graph.call_module("linear", (x,))
    h = graph.call_module("pass-1.0", (h,))
    h = graph.call_function(torch.nn.functional.relu, (h,))
    graph.output({EVIL: h, "again": [f, (h,)]})
    root = nn.Module()
    root.linear = nn.Linear(3, 3)
    root.add_module("pass-1", nn.Module())
    root.get_submodule("pass-1").add_module("0", nn.Identity())
    net = fx.GraphModule(root, graph)
    spec = describe(net, (torch.empty(2, 3),))
    step = GrowthStep(
        parent=spec.fingerprint, method=MethodRecord(name=EVIL), cost_before=spec.cost, cost_after=spec.cost,
        widths=(WidthChange(width=EVIL, before=1, after=2, split=1),), layers=(LayerInsertion(name=EVIL, after=EVIL),),
    )  # fmt: skip
    spec = spec.model_copy(update={"history": (step,)})
    spec = spec.model_copy(update={"fingerprint": fingerprint(spec)})

    write_spec(tmp_path / "evil", spec, state_tensors(net, spec))
    load(tmp_path / "evil")  # it passes every check
    return tmp_path / "evil"


def test_hostile_strings_stay_strings(hostile: Path, tmp_path: Path) -> None:
    for to in ("hub", "python", "dot"):
        export(hostile, to, tmp_path / to)
    source = (tmp_path / "python").read_text()
    tree = ast.parse(source)
    assert [
        type(node).__name__
        for node in tree.body
        if not isinstance(node, ast.Import | ast.ImportFrom)
    ] == [
        "Expr",
        "ClassDef",
    ]
    calls = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert calls <= {"super", "getattr", "Network"} | {
        node.name for node in tree.body if isinstance(node, ast.ClassDef)
    }
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "-"], input=source,
                          capture_output=True, text=True, check=False, timeout=60)  # fmt: skip
    assert done.returncode == 0, done.stdout
    card = (tmp_path / "hub" / "README.md").read_text()
    assert card.count("---\n") >= 2
    assert "<script>" not in card
    assert "\nraise" not in card
