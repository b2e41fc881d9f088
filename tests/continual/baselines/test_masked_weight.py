import pytest
import torch
from torch import nn

from fxgrow.continual.baselines.masked_weight import (
    _MASK_START,
    _MASK_THRESHOLD,
    MaskedWeight,
    WeightUse,
    widen_all,
)
from tests.continual.tiny import INPUTS, model
from tests.networks import images, network


def part() -> MaskedWeight:
    """Owned are the first two of every three; own values differ from the old ones everywhere."""
    found = MaskedWeight(
        torch.arange(1.0, 7.0).reshape(2, 3), torch.tensor([[True, True, False]] * 2)
    )
    with torch.no_grad():
        found.own.neg_()
        found.scores[0, 0] = _MASK_THRESHOLD / 2
    return found


def test_old_values_are_picked_and_own_ones_trained() -> None:
    found = part()
    weight = found()
    assert weight.tolist() == [[0, 2, -3], [4, 5, -6]]
    assert found.used().tolist() == [[False, True, True], [True, True, True]]
    weight.sum().backward()
    assert found.own.grad.tolist() == [[0, 0, 1], [0, 0, 1]]
    assert found.scores.grad.tolist() == [[1, 2, 0], [4, 5, 0]]  # also of what is not picked now
    everything = MaskedWeight(torch.ones(2), torch.ones(2).bool())
    assert everything().tolist() == [1, 1] and everything.scores[0].item() == pytest.approx(
        _MASK_START
    )


def test_the_smallest_own_weights_are_given_up_a_little_at_a_time() -> None:
    found = MaskedWeight(
        torch.tensor([5.0, -1, 3, -4, 2]), torch.tensor([True, False, False, False, False])
    )
    found.prune(0.25)
    assert found().tolist() == [5, 0, 3, -4, 2]
    with torch.no_grad():
        found.own[1] = 100  # it stays given up
    found.prune(0.5)
    assert found().tolist() == [5, 0, 3, -4, 0]
    assert found.merged().tolist() == [5, 100, 3, -4, 2]
    found.prune(1.0)
    assert found().tolist() == [5, 0, 0, 0, 0]


def test_what_a_task_uses_is_found_again_after_growth() -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    use = WeightUse.of_all(weight % 2 == 0)
    assert use.of(weight).tolist() == [[0, 0, 2], [0, 4, 0]]
    for name in ("chain", "dense"):
        given = network(name)
        uses = {n: WeightUse.of_all(torch.ones_like(w).bool()) for n, w in given.named_parameters()}
        once = widen_all(given, (images(),), 1.5, 0)
        twice = widen_all(once.module, (images(),), 1.5, 1)
        for found in (once, twice):
            maps = found.index_maps.items()
            uses = {
                n: use.moved({axis: m for (other, axis), m in maps if other == n})
                for n, use in uses.items()
            }
        weights = dict(twice.module.named_parameters())
        for n, w in given.named_parameters():
            assert torch.equal(uses[n].of(weights[n]), w), n


def test_all_widths_grow_by_the_factor_without_effect() -> None:
    given = model().eval()
    wider = widen_all(given, INPUTS, 1.25, 0)
    assert (wider.module[0].out_channels, wider.module[3].out_channels) == (5, 8)
    x = torch.randn(3, 1, 8, 8)
    assert torch.allclose(wider.module(x), given(x), atol=1e-5)
    assert widen_all(nn.Linear(3, 2), (torch.zeros(1, 3),), 1.25, 0) is None
