"""The plan says what each unit of the budget bought."""

import torch
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget, RandomGrowth
from fxgrow.growth import Plan, PlanRow, Spending
from tests.networks import images, network


def test_the_plan_of_a_growth() -> None:
    batch = (images(4), torch.tensor([0, 1, 1, 0]))
    budget = Budget(neurons=8, parameters=400)
    method = RandomGrowth(new=2)
    report = fxgrow.grow(
        network("chain"),
        [batch],
        F.cross_entropy,
        example_inputs=(images(),),
        method=method,
        budget=budget,
    ).report
    plan = report.plan
    assert {row.width: (row.split, row.new) for row in plan.rows} == {
        w.width: (w.split, w.new) for w in report.widths
    }
    assert plan.spending["neurons"] == Spending(13, 8, plan.whole.split + plan.whole.new)
    spent = report.params_after - report.params_before
    assert plan.spending["parameters"] == Spending(report.params_before, 400, spent)
    assert sum(row.cost["parameters"] for row in plan.rows) <= spent <= 400
    scores = {change.width: sum(change.scores) for change in report.widths}
    assert {row.width: row.score for row in plan.rows} == scores
    price = {
        row.width: max(row.cost["neurons"] / 8, row.cost["parameters"] / 400) for row in plan.rows
    }
    bargains = [row.score / price[row.width] for row in plan.rows]
    assert bargains == sorted(bargains, reverse=True) and len(bargains) > 1


def test_the_whole_and_what_a_unit_bought() -> None:
    rows = (PlanRow("a", 1, 2, 0.5, {"latency": 0.0}), PlanRow("b", 3, 0, 0.25, {"latency": 2.0}))
    plan = Plan(rows, {"latency": Spending(100.0, 10.0, 3.0)})
    assert [row.worth("latency") for row in rows] == [None, 0.125]
    assert plan.whole == PlanRow("all", 4, 2, 0.75, {"latency": 3.0})
