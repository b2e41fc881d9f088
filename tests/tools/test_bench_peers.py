"""The comparison with gromo: the same networks, as many neurons, times in plain epochs."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tools.bench_peers import (
    SHARE,
    Data,
    GromoChain,
    fxgrow_step,
    gromo_step,
    mean_loss,
    plain_convolutions,
    plain_mlp,
    summary,
)

SHAPES: dict[Callable[[], nn.Module], tuple[int, ...]] = {
    plain_mlp: (64,),
    plain_convolutions: (1, 4, 4),
}


def few(shape: tuple[int, ...]) -> Data:
    batches: list[tuple[Tensor, Tensor]] = []
    for _ in range(3):
        batches.append((torch.randn(16, *shape), torch.randint(10, (16,))))
    return Data(batches, batches[:2], batches[2:], batches[0])


@pytest.mark.parametrize("build", SHAPES)
def test_both_networks_are_the_same(build: Callable[[], nn.Module]) -> None:
    pytest.importorskip("gromo")
    plain, x = build(), torch.randn(4, *SHAPES[build])
    torch.testing.assert_close(GromoChain(plain)(x), plain(x))


@pytest.mark.parametrize("method", ["TINY", "GradMax"])
def test_both_grow_without_a_rise_of_the_loss(method: str) -> None:
    """As many neurons; gromo's TINY leaves out those whose singular value is next to nothing."""
    pytest.importorskip("gromo")
    torch.manual_seed(0)
    plain, data = plain_mlp(), few((64,))
    theirs = GromoChain(plain)
    before = mean_loss(plain, data.scored)
    gromo_step(theirs, data, method)
    grown = fxgrow_step(plain, data, method).module
    mine = [layer.out_features for layer in grown.children() if isinstance(layer, nn.Linear)]
    assert mine == [32 + 32 // SHARE] * 3 + [10]
    sizes = [layer.out_features for layer in theirs.layers]
    assert sizes == mine if method == "GradMax" else all(32 < size <= 40 for size in sizes[:3])
    # New neurons are read, or they would never learn.
    assert all(layer.weight[:, 32:].any() for layer in theirs.growing)
    for model in (theirs, grown):
        assert mean_loss(model, data.scored) <= before + 1e-6


def test_times_are_in_epochs_of_the_same_round() -> None:
    rounds = []
    for load in (1.0, 5.0, 2.0):
        rounds.append({"epoch": 0.5 * load, "mine": {"cpu": 2 * load, "search": load, "after": 7}})
    told = summary(rounds)
    assert told["epoch_cpu"] == 1.0
    assert told["mine"] == {
        "cpu": 4.0, "search": 2.0, "after": 7, "cpu_epochs": 4.0, "search_epochs": 2.0,
    }  # fmt: skip
