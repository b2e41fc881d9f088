"""A small convolutional network with batch norm, grown by a method end to end, and what all of its tests ask."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget
from fxgrow.capture import capture
from fxgrow.coupling import couple
from fxgrow.growth import ALL_WIDTHS, Method, SelectFunction, Selection, select
from fxgrow.growth.prepare import prepare
from fxgrow.growth.step_search import absolute_budget
from fxgrow.rewrite import OverGrown, overgrow
from tests.networks import images, network

Batches = list[tuple[Tensor, Tensor]]


def labelled(count: int = 6) -> Batches:
    """Batches of eight random images with random labels."""
    generator = torch.Generator().manual_seed(3)
    batches = []
    for seed in range(count):
        batches.append((images(8, seed), torch.randint(0, 2, (8,), generator=generator)))
    return batches


def grown(
    method: Any, budget: Budget, name: str = "chain", model: nn.Module | None = None, **options: Any
) -> fxgrow.Growth:
    """The network ``name``, or another one, grown once."""
    model = network(name) if model is None else model
    return fxgrow.grow(model, labelled(), F.cross_entropy, method=method, budget=budget, **options)


def assert_kept(method: Any, budget: Budget, name: str = "chain", **options: Any) -> fxgrow.Growth:
    """Growth adds parameters and keeps the function in both modes."""
    model = network(name)
    growth = grown(method, budget, model=model, refresh_statistics=False, **options)
    assert growth.report.params_after > growth.report.params_before
    assert growth.report.backtracks == 0
    x = images(5)
    expected = model.eval()(x)
    assert (growth.module.eval()(x) - expected).abs().max() <= 1e-9 * expected.abs().max()
    return growth


def overgrown(
    method: Method, budget: Budget, model: nn.Module, x: Tensor | None = None
) -> tuple[OverGrown, SelectFunction]:
    """The over-grown graph of what a method proposes, and what the budget buys by some scores."""
    captured = capture(model.requires_grad_(False), (images() if x is None else x,))
    ready = prepare(captured, couple(captured), method)
    resolved = absolute_budget(ready, budget, ALL_WIDTHS)
    proposal, generator = ready.proposal, torch.Generator().manual_seed(0)
    graph = overgrow(
        ready.captured, ready.coupling, proposal.split, proposal.new, generator, ready.layers
    )
    return graph, partial(select, candidates=graph.candidates, resolved=resolved)


def chosen_widths(graph: OverGrown, selection: Selection) -> dict[str, int]:
    """How many new neurons each width gets."""
    counts = {}
    for number, places in graph.candidates.new.items():
        count = int(selection.new[places].sum())
        if count:
            counts[graph.coupling.widths[number].name] = count
    return counts


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules hold the same tensors, to the bit."""
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(
        first[name].shape == second[name].shape and torch.equal(first[name], second[name])
        for name in first
    )


def assert_seeded(method: Any, budget: Budget, name: str = "chain", **options: Any) -> None:
    """A growth depends on its seed, and not on torch's own generators."""
    modules = []
    for noise, seed in ((0, 1), (7, 1), (0, 2)):
        model = network(name)
        torch.manual_seed(noise)
        modules.append(grown(method, budget, model=model, seed=seed, **options).module)
    assert same_weights(modules[0], modules[1])
    assert not same_weights(modules[0], modules[2])
