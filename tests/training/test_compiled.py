"""Compiled training steps: once, and once per growth step, with the weights of the run."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxgrow.data import Splits
from fxgrow.errors import FxgrowError
from fxgrow.growth import Budget
from fxgrow.methods import ZeroOutgoing
from fxgrow.training import BatchDone, Compilation, Event, Run, RunSettings, train_and_grow
from fxgrow.training.compiled import CompiledModel, require_compilation

COMPILED: list[int] = []
"""Nodes of every graph that was compiled."""


def counting(graph_module: torch.fx.GraphModule, inputs: Any) -> Any:
    COMPILED.append(len(graph_module.graph.nodes))
    return graph_module.forward


def failing(graph_module: torch.fx.GraphModule, inputs: Any) -> Any:
    raise RuntimeError("no compiler here")


@pytest.fixture
def avx2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")


@pytest.fixture(autouse=True, scope="module")
def _backends() -> Iterator[None]:
    torch._dynamo.register_backend(counting)
    torch._dynamo.register_backend(failing)
    yield
    torch.compiler.reset()


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 10))


def run(data: Splits, backend: str | None, events: list[Event] | None = None) -> Run:
    settings = RunSettings(
        epochs=2,
        grow_steps=1,
        # 97 images: two whole batches and one of 17.
        batch_size=40,
        growth_batches=2,
        growth_batch_size=16,
        accept_no_gain=True,
        compile=None if backend is None else Compilation(backend=backend),
    )
    return train_and_grow(
        network(),
        data,
        settings,
        example_inputs=(data.train.images[:1],),
        method=ZeroOutgoing(),
        budget=Budget(neurons=1),
        listeners=[(events if events is not None else []).append],
    )


def test_it_compiles_once_and_once_per_growth_step(digits: Splits) -> None:
    """A last batch of another size is not compiled again."""
    COMPILED.clear()
    compiled = run(digits, "counting")
    assert len(compiled.records) == 1
    assert len(COMPILED) == 2
    plain = run(digits, None)
    for name, value in plain.final.module.state_dict().items():
        assert torch.equal(value, compiled.final.module.state_dict()[name]), name
    assert type(compiled.final.module) is nn.Sequential


def test_no_limit_of_torch_ends_it() -> None:
    """After eight graphs of one function torch goes on uncompiled."""
    COMPILED.clear()
    for width in range(2, 14):
        model = CompiledModel(nn.Sequential(nn.Linear(3, width)), "counting")
        model(torch.zeros(4, 3)).sum().backward()
    assert len(COMPILED) == 12


def test_what_cannot_be_compiled_is_said(digits: Splits) -> None:
    events: list[Event] = []
    with pytest.raises(FxgrowError, match=r"no compiler here.*aot_eager") as caught:
        run(digits, "failing", events=events)
    assert caught.value.code == "not-compilable"
    assert not any(isinstance(event, BatchDone) for event in events)


def test_a_model_that_fails_says_what_it_says_uncompiled() -> None:
    class Wrong(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise ValueError("three channels, please")

    with pytest.raises(ValueError, match="three channels"):
        CompiledModel(Wrong(), "counting")(torch.zeros(2, 1))


def test_a_backend_that_there_is_not(digits: Splits) -> None:
    with pytest.raises(FxgrowError, match=r"no backend 'induktor'; there are .*inductor"):
        run(digits, "induktor")


def strided(channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 9, 1, stride=2), nn.BatchNorm2d(9))


@pytest.mark.usefixtures("avx2")
def test_what_might_write_beyond_its_memory_is_not_compiled() -> None:
    """Not even where this layout is safe: the compiler chooses another."""
    images = torch.zeros(2, 7, 5, 5)
    with pytest.raises(FxgrowError, match="0, a 1 x 1 convolution of 7 channels") as caught:
        require_compilation(Compilation(), strided(7), images)
    assert caught.value.code == "unsafe-convolution"
    require_compilation(None, strided(7), images)


@pytest.mark.usefixtures("avx2")
def test_before_it_is_compiled_a_model_is_only_looked_at() -> None:
    model = strided(8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    require_compilation(Compilation(), model, torch.randn(2, 8, 4, 4))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


class TrainedBranch(nn.Module):
    """Classifies early as well, in training only, as GoogLeNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Conv2d(3, 3, 1, stride=2)

    def forward(self, images: Tensor) -> Tensor:
        return self.early(images) if self.training else images


@pytest.mark.usefixtures("avx2")
def test_a_branch_for_training_is_looked_at() -> None:
    with pytest.raises(FxgrowError, match="early, a 1 x 1 convolution"):
        require_compilation(Compilation(), TrainedBranch().eval(), torch.zeros(2, 3, 4, 4))
