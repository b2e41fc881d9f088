from dataclasses import replace
from io import StringIO

from rich.console import Console, RenderableType

from fxgrow.capture import How, PartReport
from fxgrow.coupling import Unreached
from fxgrow.errors import Refusal
from fxgrow.growth import GrowthReport, Plan, PlanRow, Spending
from fxgrow.growth.batch_roles import BatchRoles
from fxgrow.growth.statistics import BatchNormGap
from fxgrow.report import (
    capture_table,
    diff_tables,
    growth_headline,
    growth_lines,
    plan_lines,
    unreached_lines,
    widths_lines,
    widths_table,
)
from fxgrow.spec import Cost, LayerInsertion, SpecDiff, WidthChange, WidthSpec
from fxgrow.spec.diff.records import (
    LayerDiff,
    ModuleDiff,
    NodeDiff,
    RenameDiff,
    TensorDiff,
    WidthDiff,
)
from fxgrow.spec.models import RefusalSpec, SiteSpec


def text(*parts: RenderableType) -> list[list[str]]:
    """The words of every line that has some."""
    out = Console(file=StringIO(), width=200)
    for part in parts:
        out.print(part)
    assert isinstance(out.file, StringIO)
    return [line.split() for line in out.file.getvalue().splitlines() if line.split()]


SITES = (
    SiteSpec(parameter="a.weight", axis=0, role="writes"),
    SiteSpec(parameter="a.bias", axis=0, role="writes"),
    SiteSpec(parameter="b.weight", axis=1, role="reads"),
)
WIDTHS = (
    WidthSpec(name="a[0]", size=4, granule=2, sites=SITES, growable=True),
    WidthSpec(
        name="b",
        size=10,
        growable=False,
        refusal=RefusalSpec(code="output", reason="it is the output", nodes=("b: addmm (x.py:3)",)),
    ),
)
PLAN = Plan(
    rows=(PlanRow("a[0]", split=2, new=1, score=0.75, cost={"parameters": 300, "latency": 0.0}),),
    spending={"parameters": Spending(1000, 600, 500), "latency": Spending(2000.0, 150.0, 100.4)},
)
REPORT = GrowthReport(
    loss_before=0.5,
    loss_after=0.25,
    faithful_error=1e-7,
    preservation_error=2e-7,
    backtracks=2,
    params_before=1000,
    params_after=1500,
    multiply_adds_before=10**6,
    multiply_adds_after=2 * 10**6,
    widths=(WidthChange(width="a[0]", before=4, after=7, split=2, new=1, scores=(0.5, 0.25)),),
    layers=(LayerInsertion(name="grown_layers.relu", after="relu", score=0.5, neurons=3),),
    plan=PLAN,
    refusals={"b": Refusal("output", "it is the output")},
    edits={},
    timings={"search": 2.0},
)


def test_widths() -> None:
    lines = text(widths_table(WIDTHS), widths_lines(WIDTHS))
    assert lines[3:5] == [
        ["a[0]", "4", "2", "2", "writes,", "1", "reads", "yes"],
        [
            "b",
            "10",
            "1",
            "no,",
            "output:",
            "it",
            "is",
            "the",
            "output",
            "[b:",
            "addmm",
            "(x.py:3)]",
        ],
    ]
    assert lines[-1] == ["1", "of", "2", "widths", "can", "grow,", "4", "neurons", "in", "them"]


def words(*lines: str) -> list[list[str]]:
    return [line.split() for line in lines]


def test_growth() -> None:
    assert growth_headline(REPORT, 3) == (
        "growth step 3: a[0] 4 -> 7, new layer grown_layers.relu (3 neurons)"
    )
    assert text(*growth_lines(REPORT)) == words(
        "loss on the growth batches that scored 0.5 -> 0.25 after halving eps 2 times",
        "parameters 1 k -> 1.5 k (x1.50)",
        "multiply-adds 1 M -> 2 M (x2.00)",
        "off by 1.0e-07 from the over-grown graph, by 2.0e-07 from the old model at eps = 0; took 2 s",
        "did not take part: 1 width (1 output)",
    )


def test_held_out_loss_and_stale_statistics() -> None:
    roles = BatchRoles(4, 2, 2, 30, 8)
    report = replace(
        REPORT, held_out_before=0.5, held_out_after=0.75, batches=roles, stale_loss=0.875
    )
    assert text(*growth_lines(report))[1:4] == words(
        "loss on held-out batches 0.5 -> 0.75",
        "8 growth batches: 4 to search on (by 30 steps in turn), 2 to score on, 2 held out",
        "statistics of batch norms estimated anew before that: held-out loss 0.875 -> 0.5",
    )


def test_jump() -> None:
    assert text(*growth_lines(replace(REPORT, jump=BatchNormGap(-0.125, 0.5))))[4:5] == words(
        "statistics of each batch instead of running ones move the loss by -0.12 before growth, +0.5 after"
    )


def test_a_headline_names_the_widths_that_grew_most() -> None:
    grown = [WidthChange(width=f"w{n}", before=4, after=5 + n, new=1 + n) for n in range(6)]
    line = growth_headline(replace(REPORT, widths=tuple(grown), layers=()), 1)
    assert line == "growth step 1: w5 4 -> 10, w4 4 -> 9, w3 4 -> 8, w2 4 -> 7, and 2 more"
    assert growth_headline(replace(REPORT, widths=(), layers=()), 1).endswith("nothing grew")


def test_plan() -> None:
    assert text(*plan_lines(PLAN)) == words(
        "budget: 500 of 600 parameters spent, 50.00 % of the 1 k before",
        "budget: 100 of 150 microseconds spent, 5.02 % of the 2 k before",
    )


SMALL, LARGE = Cost(parameters=10, multiply_adds=100), Cost(parameters=20, multiply_adds=150)


def test_diff() -> None:
    difference = SpecDiff(
        widths=(
            WidthDiff(
                name="a", before=4, after=6, origin="history", split=2, score=0.5, parameters=1500
            ),
            WidthDiff(name="c", before=None, after=3),
            WidthDiff(name="d", was="e", before=3, after=2, parameters=-10),
        ),
        layers=(
            LayerDiff(
                name="grown.x", after="relu", neurons=3, form="token", score=0.25, nodes=("x", "y")
            ),
        ),
        inserted=("extra",),
        renamed=(
            RenameDiff(what="module", before="layer1.0.conv", after="stage.first.0.conv"),
            RenameDiff(what="node", before="layer1_0_conv", after="stage_first_0_conv"),
            RenameDiff(what="node", before="add", after="add_1"),
        ),
        changed=(
            NodeDiff(kind="arguments", name="flat", before="x", after="y"),
            NodeDiff(kind="rewired", name="z", before="x", after="y", caused_by=("grown.x",)),
        ),
        modules=(ModuleDiff(name="m", attribute="eps", before="1", after="2"),),
        tensors=(TensorDiff(name="m.weight", before=(4,), after=(6,), caused_by=("a",)),),
        cost_before=SMALL,
        cost_after=LARGE,
    )
    lines = text(*diff_tables(difference))
    for line in (
        "a 4 6 2 0 0.5 +1.5 k", "c - 3 - - - -", "d (was e) 3 2 - - - -10", "grown.x inserted relu token 3 2 0.25 -",
        "inserted nodes (1): extra", "other arguments (1): y (was x)", "renamed modules (1): layer1 -> stage.first",
        "renamed nodes (1): add -> add_1", "m eps 1 2", "what follows from these: 1 node, 1 tensor",
        "parameters 10 20 x2.00", "multiply-adds 100 150 x1.50",
    ):  # fmt: skip
        assert line.split() in lines, line
    assert not any("m.weight" in line for line in lines)


def test_nothing_but_names() -> None:
    renamed = (RenameDiff(what="node", before="a", after="b"),)
    lines = text(
        *diff_tables(SpecDiff(renamed=renamed, moved=("c",), cost_before=SMALL, cost_after=SMALL))
    )
    assert lines == words(
        "The two architectures differ in nothing but names and order.", "moved nodes (1): c",
        "renamed nodes (1): a -> b",
    )  # fmt: skip


def test_no_difference() -> None:
    same = SpecDiff(cost_before=SMALL, cost_after=SMALL)
    assert text(*diff_tables(same)) == [["The", "two", "architectures", "are", "the", "same."]]


def test_capture() -> None:
    parts = (PartReport("", How.TRACED), PartReport("head", How.OPAQUE, "if [x] > 0"))
    assert text(capture_table(parts))[3:] == [
        ["(whole", "model)", "traced"],
        ["head", "opaque", "if", "[x]", ">", "0"],
    ]
    assert text(capture_table(parts, 0.25))[0][:2] == ["Capture:", "25%"]


def test_what_no_example_reaches_says_what_follows_from_it() -> None:
    lines = unreached_lines(
        [
            Unreached("experts.3", ("experts.3.weight",), (), "experts.0"),
            Unreached("heads.1", ("heads.1.weight",), ("a", "b")),
            Unreached("unused", ("unused.weight",)),
        ]
    )
    assert str(lines).splitlines() == [
        "not reached: experts.3 (follows experts.0)",
        "not reached: heads.1 (refuses a, b)",
        "not reached: unused (has no size of a width that could come there)",
    ]
