"""Widths that grow alike."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget, Firefly, GrowthError, RandomGrowth
from fxgrow.coupling import couple
from fxgrow.growth.scope import resolve_ties
from tests.growth.test_select import chosen, resolved
from tests.networks import images, randomised

LABELS = torch.tensor([0, 1, 0, 1, 1, 0, 1, 0])


class Blocks(nn.Module):
    """Two blocks alike on a stream of four channels, and one that is smaller."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.a, self.b, self.small = (
            nn.Sequential(
                nn.Conv2d(4, n, 3, padding=1), nn.BatchNorm2d(n), nn.ReLU(), nn.Conv2d(n, 4, 1)
            )
            for n in (3, 3, 2)
        )
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        for block in (self.a, self.b, self.small):
            x = x + block(x)
        out: Tensor = self.head(x.mean((2, 3)))
        return out


def grown(
    method: Firefly | RandomGrowth, *tie: list[str], memory_limit: float | None = None
) -> fxgrow.Growth:
    torch.manual_seed(0)
    return fxgrow.grow(
        randomised(Blocks().double()), [(images(8), LABELS)], F.cross_entropy, example_inputs=(images(),),
        method=method, budget=Budget(neurons=6), tie=tie, memory_limit=memory_limit,
    )  # fmt: skip


METHODS = [Firefly(new=1, steps=3, refine_steps=1), Firefly(new=0, steps=3), RandomGrowth(new=2)]


@pytest.mark.parametrize("memory_limit", [None, 120_000.0], ids=["one graph", "in chunks"])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_tied_widths_split_the_same_neurons_and_get_as_many_new_ones(
    method: Firefly | RandomGrowth, memory_limit: float | None
) -> None:
    growth = grown(method, ["a.0", "b.0"], memory_limit=memory_limit)
    assert (len(growth.report.chunks) > 1) == (memory_limit is not None)
    changes = {change.width: change for change in growth.spec.history[0].widths}
    assert ("a.0" in changes) == ("b.0" in changes)
    if "a.0" in changes:
        mine, other = (
            changes[name].model_dump(exclude={"width", "scores"}) for name in ("a.0", "b.0")
        )
        assert mine == other
    assert growth.module.a[0].out_channels == growth.module.b[0].out_channels
    assert growth.report.faithful_error < 1e-12 and growth.report.preservation_error < 1e-12
    assert growth.spec.history[0].ties == (("a.0", "b.0"),)


def test_without_a_tie_they_differ() -> None:
    """Else the test above says nothing."""
    growth = grown(METHODS[2])
    changes = [change for change in growth.spec.history[0].widths if change.width in ("a.0", "b.0")]
    assert len({(change.neurons, change.new) for change in changes}) == 2


def test_candidates_at_the_same_place_are_one_with_the_sum_of_scores_at_the_price_of_both() -> None:
    scores = [[0.5, 0.0, 0.3], [-0.4, 0.2, 0.3], [0.25, 0.2, 0.1]]
    free, tied = (
        chosen(resolved(4, 1, 1, 1, ties=ties), scores).split.tolist() for ties in ((), ((0, 1),))
    )
    assert free == [True, False, True, False, False, True, True, False, False]
    # 0.6 for 2, then 0.25 and 0.2 for 1 each
    assert tied == [False, False, True, False, False, True, True, True, False]


def test_a_pair_that_does_not_fit_is_left() -> None:
    found = chosen(resolved(3, 2, 2, 1, ties=((0, 1),)), [[9.0], [9.0], [0.1]])
    assert found.split.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("tie", "code", "reason"),
    [
        (
            [["a.0", "small.0"]],
            "unequal-tie",
            "'a.0' and 'small.0' cannot grow alike, they have 3 and 2 neurons",
        ),
        ([["a.0", "nowhere"]], "unknown-width", "no width 'nowhere'"),
        ([["a.0", "b.0"], ["small*"]], "single-tie", "nothing would grow alike"),
    ],
)
def test_what_cannot_be_tied(tie: list[list[str]], code: str, reason: str) -> None:
    with pytest.raises(GrowthError, match=reason) as caught:
        grown(METHODS[0], *tie)
    assert caught.value.code == code


def test_patterns() -> None:
    coupling = couple(Blocks(), (torch.zeros(2, 3, 8, 8),))
    names = [width.name for width in coupling.widths]
    assert [[names[n] for n in tie] for tie in resolve_ties(coupling, [["[ab].0"]])] == [
        ["a.0", "b.0"]
    ]


def test_a_width_is_in_one_tie() -> None:
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(4)])
    coupling = couple(model, (torch.zeros(2, 4),))
    with pytest.raises(GrowthError, match="width '1' is in two ties") as caught:
        resolve_ties(coupling, [["0", "1"], ["1", "2"]])
    assert caught.value.code == "unequal-tie"
