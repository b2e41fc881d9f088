"""Grown models beside those written by hand: both compute the same, and memory is counted."""

import json

import pytest
import torch
from torch import nn

from tools import bench_emitted
from tools.hand_written import sizes_of


@pytest.mark.parametrize(
    ("name", "form"), [("ResNet-18", "with layers"), ("GPT", "wider"), ("GPT", "with blocks")]
)
def test_the_network_by_hand_is_the_grown_one(name: str, form: str) -> None:
    subject = bench_emitted.subjects(quick=True)[name]
    row = bench_emitted.compared(subject, form, 1, [None])
    assert row["difference"] < 1e-5
    assert row["parameters"] > sum(p.numel() for p in subject.make(subject.sizes).parameters())
    assert {"ratio", "ratios", "emitted_seconds", "by_hand_seconds"} == set(row["eager"]["cpu"])
    json.dumps(row)


def test_a_compiled_step_has_no_graph_break() -> None:
    subject = bench_emitted.subjects(quick=True)["GPT"]
    module, by_hand = bench_emitted.grown(subject, "with layers")
    assert isinstance(module, torch.fx.GraphModule)
    assert sizes_of(module) != subject.sizes
    for model in (module, by_hand):
        bench_emitted.training_step(model, subject, "eager")()

    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = by_hand

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch._dynamo.graph_break()
            out: torch.Tensor = self.inner(x)
            return out

    with pytest.raises(torch._dynamo.exc.Unsupported):
        bench_emitted.training_step(Broken(), subject, "eager")()


def test_what_stays_alive_is_counted() -> None:
    before = bench_emitted.alive()
    kept = torch.zeros(1000)
    view = kept[:10]
    assert bench_emitted.alive() - before == 4000
    del kept
    assert bench_emitted.alive() - before == 4000 and len(view) == 10
    del view
    assert bench_emitted.alive() == before


def test_growing_again_and_again_keeps_nothing() -> None:
    row = bench_emitted.memory(3, warm=1)
    assert row["parameter_bytes"][1] > row["parameter_bytes"][0]
    assert row["tensors_beyond_more"] == 0
