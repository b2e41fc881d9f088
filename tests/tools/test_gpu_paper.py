"""The paper's size on a GPU, tried on the processor with networks that take no time."""

from typing import Any

import pytest
import torch
from torch import nn

from fxgrow.data import DataSet
from fxgrow.methods import ZeroOutgoing
from tools import gpu_paper
from tools.gpu_checks import CHECKS, LONG
from tools.gpu_paper import accuracy, grown, lines, times, train_for


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Tanh(), nn.Linear(4, 10))


def digits() -> DataSet:
    generator = torch.Generator().manual_seed(0)
    return DataSet(torch.randn(64, 3, 2, 2, generator=generator), torch.arange(64) % 10)


def test_a_network_is_trained_for_some_seconds() -> None:
    data, model = digits(), network()
    before = accuracy(model, data)
    assert train_for(model, gpu_paper._batches(data, 16), 0.2) > 1
    assert accuracy(model, data, size=10) > before


def test_it_grows_between_the_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_paper, "Firefly", ZeroOutgoing)
    data = digits()
    sizes = grown(network(), gpu_paper._batches(data, 16), data, 0.04)
    parameters = [size["parameters"] for size in sizes]
    assert parameters == sorted(set(parameters))
    assert len(parameters) == gpu_paper.GROWTHS + 1
    assert "growth" not in sizes[-1]


def test_one_round_of_times_is_always_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    methods = {"firefly": ZeroOutgoing(), "NASH": ZeroOutgoing()}
    monkeypatch.setattr(gpu_paper, "METHODS", methods)
    monkeypatch.setattr("tools.experiments.step_time.METHODS", methods)
    batches = [(data.images[:8], data.labels[:8]) for data in [digits()] * 3]
    said: list[str] = []
    found = times(network(), batches, 0.0, said.append)
    assert (found["rounds"], len(said)) == (1, 2)
    size: dict[str, Any] = {"parameters": 10, "accuracy": 0.5}
    told = lines({"full": {**size, "parameters": 1000}, "grown": [size], "times": found})
    assert told[1] == "grown to 1.00 % of it: 50.00 %"


def test_it_is_run_only_when_asked_for() -> None:
    assert LONG.keys() == {"paper"}
    assert not LONG.keys() & CHECKS.keys()
    assert lines({}) == []
