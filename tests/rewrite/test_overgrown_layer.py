"""OvergrownLayer against its equations, and block products against separate products."""

import copy

import pytest
import torch
from torch import nn

from fxgrow.rewrite.candidate_scaling import scaled_candidates
from fxgrow.rewrite.candidates import Slots
from fxgrow.rewrite.linear_op import LinearOp, blockwise_apply
from fxgrow.rewrite.operators import LINEAR_FORM, LINEAR_MODULES
from fxgrow.rewrite.overgrown_layer import Kept, OvergrownLayer

LAYERS = {
    "linear": (nn.Linear(4, 6), (3, 4)),
    "conv": (nn.Conv2d(4, 6, 3, padding=1), (3, 4, 5, 5)),
    "strided without bias": (nn.Conv2d(4, 6, 3, stride=2, bias=False), (3, 4, 5, 5)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), (3, 4, 5, 5)),
    "reflect": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (3, 4, 5, 5)),
    "conv1d": (nn.Conv1d(4, 6, 2), (3, 4, 5)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1), (3, 4, 5, 5)),
}


def overgrown_layer(
    base: nn.Linear, split: torch.Tensor | None, rows: list[Slots], columns: list[Slots]
) -> OvergrownLayer:
    return OvergrownLayer(
        LinearOp("weight", "bias", LINEAR_FORM), base.weight, base.bias, split, rows, columns
    )


@pytest.mark.parametrize("name", LAYERS)
def test_block_product_equals_separate_products(name: str) -> None:
    base, shape = LAYERS[name]
    base, x = base.double(), torch.randn(shape, dtype=torch.float64)
    make, swapped = LINEAR_MODULES[type(base)]
    weight = base.weight.transpose(0, 1) if swapped else base.weight
    rows = torch.randn(4, *weight.shape[1:], dtype=torch.float64)
    bias = None if base.bias is None else torch.randn(4, dtype=torch.float64)
    z, more = blockwise_apply(make(base), x, (weight, base.bias), [(rows, bias)])
    torch.testing.assert_close(z, base(x))
    other = copy.deepcopy(base)
    other.weight = nn.Parameter(rows.transpose(0, 1) if swapped else rows)
    other.bias = None if bias is None else nn.Parameter(bias)
    torch.testing.assert_close(more, other(x))


def test_equations() -> None:
    """z = W x + C (eps_new x_w), z +- eps_split D x, R x, in the layer's units."""
    torch.manual_seed(0)
    base = nn.Linear(3, 2).double()
    layer = overgrown_layer(
        base, torch.tensor([0, -1]), [Slots(1, torch.tensor([0, 1]))], [Slots(0, torch.tensor([2]))]
    ).double()
    for parameter in (*layer.delta, *layer.new, *layer.outgoing):  # type: ignore[misc]
        nn.init.normal_(parameter)
    x, lane = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 1, dtype=torch.float64)
    split_eps, new_eps = (
        torch.tensor([0.5], dtype=torch.float64),
        torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64),
    )
    plus, minus, new = layer(x, None, [lane], scaled_candidates([layer], split_eps, new_eps)[0])
    theta = torch.cat(
        [base.weight, base.bias[:, None]], 1
    )  # the ball is over all that writes a neuron
    row, column = theta.norm(dim=1).mean(), base.weight.norm(dim=0).mean()
    z = base(x) + 0.3 * column * lane @ layer.outgoing[0].T
    dz = row * torch.tensor([0.5, 0.0]) * (x @ layer.delta[0].T + layer.delta[1])  # type: ignore[index]
    torch.testing.assert_close(plus, z + dz)
    torch.testing.assert_close(minus, z - dz)
    torch.testing.assert_close(new, row * (x @ layer.new[0].T + layer.new[1]))  # type: ignore[index]


def test_reads_the_mean_of_the_halves() -> None:
    base = nn.Linear(3, 2)
    layer = overgrown_layer(base, None, [], [])
    plus, minus = torch.randn(2, 4, 3)
    (out,) = layer(plus, minus, [], scaled_candidates([layer], None, None)[0])
    torch.testing.assert_close(out, (base(plus) + base(minus)) / 2)


def test_frozen_block_gets_no_gradient() -> None:
    base, rows = nn.Linear(3, 2), torch.randn(4, 3, requires_grad=True)
    z, more = blockwise_apply(
        LINEAR_FORM, torch.randn(5, 3), (base.weight, base.bias), [(rows, torch.zeros(4))]
    )
    (z.sum() + more.sum()).backward()
    assert base.weight.grad is None and base.bias.grad is None and rows.grad is not None


def test_candidates_have_no_entries_at_blank_neurons() -> None:
    """Whatever a method writes there: neither in the product, nor in what is emitted."""
    torch.manual_seed(0)
    base = nn.Linear(3, 2)
    kept = Kept(torch.tensor([True, False]), torch.tensor([True, True, False]))
    layer = OvergrownLayer(
        LinearOp("weight", "bias", LINEAR_FORM),
        base.weight,
        base.bias,
        torch.tensor([0, 1]),
        [Slots(1, torch.tensor([0]))],
        [Slots(0, torch.tensor([1]))],
        kept=kept,
    )
    for parameter in (*layer.delta, *layer.new, *layer.outgoing):  # type: ignore[misc]
        nn.init.ones_(parameter)
    delta, incoming, (columns,), _ = scaled_candidates([layer], torch.ones(2), torch.ones(2))[0]
    assert delta is not None and incoming is not None
    for rows in (delta, incoming):
        assert bool((rows.weight[:, :2] != 0).all()) and not rows.weight[:, 2].any()
        assert rows.bias is not None and bool((rows.bias != 0).all())
    assert columns[0].any() and not columns[1].any()
    lane, x = torch.randn(4, 1), torch.randn(4, 3)
    blocks = scaled_candidates([layer], torch.zeros(2), torch.ones(2))[0]
    plus, _, new = layer(x, None, [lane], blocks)
    torch.testing.assert_close(plus[:, 1], base(x)[:, 1])
    moved = x + torch.tensor([0.0, 0.0, 1.0])
    torch.testing.assert_close(layer(moved, None, [lane], blocks)[2], new)
