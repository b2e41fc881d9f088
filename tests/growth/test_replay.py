"""The first spec and the history give the grown architecture again, and nothing else is taken for it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget, Firefly
from fxgrow.growth.replay import replay
from fxgrow.spec import ArchitectureSpec, GrowthStep, WidthChange
from fxgrow.training.network import capture_network as described
from tests.networks import NETWORKS, images, network

LABELS = torch.tensor([0, 1, 0, 1, 1, 0, 1, 0])


def grown_twice(module: nn.Module, **settings: Any) -> tuple[ArchitectureSpec, ArchitectureSpec]:
    """The specs before and after two growth steps."""
    first = described(module, (images(),)).spec
    history: tuple[GrowthStep, ...] = ()
    for _ in range(2):
        growth = fxgrow.grow(
            module, [(images(8), LABELS)], F.cross_entropy, example_inputs=(images(),), history=history,
            method=Firefly(**{"new": 2, "steps": 1, "refine_steps": 0} | settings), budget=Budget(neurons=6),
        )  # fmt: skip
        module, history = growth.module, growth.spec.history
    return first, growth.spec


@pytest.mark.parametrize("layers", [0, 2], ids=["wider", "wider and deeper"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_step_gives_the_recorded_architecture(name: str, layers: int) -> None:
    first, last = grown_twice(network(name), layers=layers)
    found = replay(first, last.history)
    assert [spec.fingerprint for spec in found] == [last.history[1].parent, last.fingerprint]
    assert found[-1].history == last.history
    assert [(width.name, width.size) for width in found[-1].widths] == [
        (width.name, width.size) for width in last.widths
    ]


@pytest.fixture(scope="module")
def grown() -> tuple[ArchitectureSpec, ArchitectureSpec]:
    return grown_twice(network("chain"), layers=2)


def _change(
    spec: ArchitectureSpec, change: Callable[[WidthChange], WidthChange]
) -> tuple[GrowthStep, ...]:
    step = spec.history[0]
    wrong = step.model_copy(update={"widths": tuple(change(width) for width in step.widths)})
    return (wrong, *spec.history[1:])


def test_one_neuron_more_is_another_architecture(
    grown: tuple[ArchitectureSpec, ArchitectureSpec],
) -> None:
    first, last = grown
    more = _change(last, lambda width: width.model_copy(update={"new": width.new + 1}))
    with pytest.raises(fxgrow.SpecError, match=r"history\[1\]: it grew from") as caught:
        replay(first, more)
    assert caught.value.code == "not-replayable"


@pytest.mark.parametrize(
    ("update", "reason"),
    [({"width": "nowhere"}, "no width 'nowhere'"), ({"before": 99}, "neurons, not 99")],
)
def test_a_step_that_fits_nothing(
    grown: tuple[ArchitectureSpec, ArchitectureSpec], update: dict[str, Any], reason: str
) -> None:
    first, last = grown
    with pytest.raises(fxgrow.SpecError, match=reason) as caught:
        replay(first, _change(last, lambda width: width.model_copy(update=update)))
    assert (caught.value.code, caught.value.path) == ("not-replayable", "history[0]")


def test_the_wrong_beginning(grown: tuple[ArchitectureSpec, ArchitectureSpec]) -> None:
    _, last = grown
    with pytest.raises(fxgrow.SpecError, match=r"history\[0\]: it grew from"):
        replay(last, last.history)


def test_a_history_of_schema_version_1(grown: tuple[ArchitectureSpec, ArchitectureSpec]) -> None:
    """It does not say which neurons were split nor what a layer is; the architecture is the same whichever they are."""
    first, last = grown
    steps = tuple(
        step.model_copy(
            update={
                "widths": tuple(width.model_copy(update={"neurons": ()}) for width in step.widths),
                "layers": tuple(
                    layer.model_copy(update={"form": None, "norm": None}) for layer in step.layers
                ),
            }
        )
        for step in last.history
    )
    assert replay(first, steps)[-1].fingerprint == last.fingerprint
