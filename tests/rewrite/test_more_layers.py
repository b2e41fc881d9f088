"""What widen grows, grow grows: grouped and transposed convolutions, deformable ones, computed weights, bags, conditions."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.parametrize import register_parametrization
from torchvision.ops import DeformConv2d, deform_conv2d

import fxgrow
from fxgrow.capture import capture
from fxgrow.coupling import couple
from fxgrow.rewrite import OvergrownLayer, overgrow
from tests.coupling.models import Net
from tests.rewrite.rewriting import assert_faithful

pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
Case = tuple[Callable[[], nn.Module], tuple[Tensor, ...], set[str]]
"""The model, its inputs, and all widths that grow."""

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def _values(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


IMAGE, VECTOR = _values(2, 3, 6, 6), _values(4, 6)
WORDS, CLASSES = torch.tensor([[1, 2, 0], [3, 3, 5]]), torch.tensor([2, 0])
MIDDLE = {"a", "middle"}


def _between(
    middle: Callable[[], nn.Module], inner: int, rank: int = 2, channels: int = 4
) -> nn.Module:
    """Two layers of kernel size 1 around one that reads ``channels`` and writes ``inner``."""
    return Net(
        lambda net, x: net.b(torch.tanh(net.middle(torch.tanh(net.a(x))))),
        a=CONVOLUTIONS[rank](3, channels, 1),
        middle=middle(),
        b=CONVOLUTIONS[rank](inner, 2, 1),
    )


def _linear(middle: nn.Module) -> nn.Module:
    return Net(
        lambda net, x: net.b(torch.tanh(net.middle(torch.tanh(net.a(x))))),
        a=nn.Linear(6, 4),
        middle=middle,
        b=nn.Linear(5, 2),
    )


class Twice(nn.Module):
    """A parametrization that is linear in every entry."""

    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


class Standardized(nn.Module):
    """Rows of mean 0 and deviation 1, as of a weight-standardized convolution."""

    def forward(self, weight: Tensor) -> Tensor:
        rows = weight.flatten(1)
        return ((rows - rows.mean(1, keepdim=True)) / rows.std(1, keepdim=True)).view_as(weight)


def _parametrized(layer: nn.Module, parametrization: nn.Module, name: str = "weight") -> nn.Module:
    register_parametrization(layer, name, parametrization)
    return layer


class Deformed(nn.Module):
    """A deformable convolution that computes where it reads."""

    def __init__(self, groups: int = 1, offset_groups: int = 1, masked: bool = False) -> None:
        super().__init__()
        self.offset = nn.Conv2d(4, 18 * offset_groups, 3, padding=1)
        self.mask = nn.Conv2d(4, 9 * offset_groups, 3, padding=1) if masked else None
        self.conv = DeformConv2d(4, 6, 3, padding=1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        mask = None if self.mask is None else torch.sigmoid(self.mask(x))
        return self.conv(x, torch.tanh(self.offset(x)), mask)


class DeformedByFunction(Deformed):
    def forward(self, x: Tensor) -> Tensor:
        offset = torch.tanh(self.offset(x))
        return deform_conv2d(x, offset, self.conv.weight, self.conv.bias, padding=1)


class ConditionalNorm(nn.Module):
    """Class-conditional batch norm: one table of scales and shifts, cut in two."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.table = nn.Embedding(classes, 2 * channels)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        scale, shift = self.table(y).chunk(2, 1)
        return self.norm(x) * (1 + scale[:, :, None, None]) + shift[:, :, None, None]


class TwoTables(ConditionalNorm):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(channels, classes)
        self.table = nn.Embedding(classes, channels)
        self.shifts = nn.Embedding(classes, channels)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        scaled = self.norm(x) * self.table(y).unsqueeze(-1).unsqueeze(-1)
        return scaled + self.shifts(y).view(x.shape[0], -1, 1, 1)


class Equalized(nn.Module):
    """A layer that scales its weights as it runs (StyleGAN)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(5, 4)), nn.Parameter(torch.randn(5))
        self.gain = nn.Parameter(torch.randn(5, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * (self.gain * 0.5), bias=self.bias * 0.1)


class StandardizedConvolution(nn.Conv2d):
    """A convolution that standardizes its weights as it runs."""

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        weight = (self.weight - mean) / (self.weight - mean).flatten(1).norm(dim=1)[
            :, None, None, None
        ]
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class NumberOfRows(nn.Conv2d):
    """Its code holds the number of its rows, which follows its attribute only."""

    def forward(self, x: Tensor) -> Tensor:
        rows = self.weight.reshape(self.out_channels, -1)
        weight = (rows - rows.mean(1, keepdim=True)).view_as(self.weight)
        return F.conv2d(x, weight, self.bias)


class Blur(nn.Module):
    """A depthwise convolution with a fixed kernel, by function, whose groups are an attribute."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("kernel", torch.rand(channels, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, groups=self.channels)


class Flat(nn.Module):
    """A layer as GPT-2 has it, whose code holds the number of its rows."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.rows = rows
        self.weight, self.bias = (
            nn.Parameter(torch.randn(columns, rows)),
            nn.Parameter(torch.randn(rows)),
        )

    def forward(self, x: Tensor) -> Tensor:
        shape = (*x.size()[:-1], self.rows)
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(shape)


class FlatBySum(Flat):
    """The shape is a sum of tuples, which is one value in the graph."""

    def forward(self, x: Tensor) -> Tensor:
        shape = x.size()[:-1] + (self.rows,)  # noqa: RUF005
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(shape)


def _conditional(kind: type[ConditionalNorm]) -> nn.Module:
    return Net(
        lambda net, x, y: net.b(torch.relu(net.norm(net.a(x), y))),
        a=nn.Conv2d(3, 4, 1),
        norm=kind(4, 5),
        b=nn.Conv2d(4, 2, 1),
    )


def _bag(mode: str) -> nn.Module:
    return Net(
        lambda net, x: net.b(torch.tanh(net.a(x))), a=nn.EmbeddingBag(7, 4, mode=mode), b=_read(4)
    )


def _weighted_bag() -> nn.Module:
    def forward(net: Any, x: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        return net.b(torch.tanh(net.a(x, offsets, per_sample_weights=weights)))

    return Net(forward, a=nn.EmbeddingBag(7, 4, mode="sum"), b=_read(4))


def _bag_by_function() -> nn.Module:
    def forward(net: Any, x: Tensor) -> Tensor:
        return net.b(torch.tanh(F.embedding_bag(x, net.a.weight, mode="mean")))

    return Net(forward, a=nn.Embedding(7, 4), b=_read(4))


def _read(features: int) -> nn.Linear:
    return nn.Linear(features, 2)


def _without(rows: int, columns: int) -> nn.Module:
    """Beside the layer that reads lies one without rows, or between two layers nothing."""

    def forward(net: Any, x: Tensor) -> Tensor:
        hidden = torch.tanh(net.a(x))
        return torch.cat([net.b(hidden), net.last(net.empty(hidden))], 1)

    return Net(
        forward,
        a=nn.Linear(6, 4),
        b=_read(4),
        empty=nn.Linear(4, rows),
        last=nn.Linear(rows, columns),
    )


def _tied_embeddings() -> nn.Module:
    """The output's weights are those of the embedding; the layer between them grows."""

    def forward(net: Any, x: Tensor) -> Tensor:
        return F.linear(net.b(torch.tanh(net.a(net.table(x)))), net.table.weight)

    return Net(forward, table=nn.Embedding(7, 4), a=nn.Linear(4, 5), b=nn.Linear(5, 4))


def _used_twice() -> nn.Module:
    """Two layers share one weight, which reads and writes two widths."""

    def forward(net: Any, x: Tensor) -> Tensor:
        first = net.middle(torch.tanh(net.a(x)))
        return net.b(torch.tanh(first) * torch.tanh(net.middle(torch.sin(net.a(x)))))

    return Net(forward, a=nn.Linear(6, 4), middle=nn.Linear(4, 5), b=_read(5))


class LearnedQueries(nn.Module):
    """Attention whose queries are parameters, which the values pass."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(3, 4))
        self.q, self.k, self.v = nn.Linear(4, 4), nn.Linear(6, 4), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        queries = self.q(self.queries).expand(x.shape[0], -1, -1)
        return F.scaled_dot_product_attention(queries, self.k(x), self.v(x))


def _mixed_over_time(by_layer: bool) -> nn.Module:
    """Every neuron is a mixture of itself at all times."""

    def forward(net: Any, x: Tensor) -> Tensor:
        hidden = torch.tanh(net.a(x))
        if by_layer:
            return net.b(torch.tanh(net.mix(hidden.transpose(1, 2)).transpose(1, 2)))
        return net.b(torch.tanh(net.mix.weight @ hidden))

    return Net(forward, a=nn.Linear(6, 5), mix=nn.Linear(3, 3), b=_read(5))


def _normalized_by_hook(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch recommends the parametrization
        return nn.utils.weight_norm(layer)  # type: ignore[no-untyped-call,no-any-return]


SIGNALS = {1: _values(2, 3, 9), 2: IMAGE, 3: _values(2, 3, 4, 4, 4)}
CASES: dict[str, Case] = {
    "weight norm": (
        lambda: _linear(parametrizations.weight_norm(nn.Linear(4, 5))),
        (VECTOR,),
        {"a", "middle"},
    ),
    "weight norm, convolution": (
        lambda: _between(lambda: parametrizations.weight_norm(nn.Conv2d(4, 6, 3)), 6),
        (IMAGE,),
        {"a", "middle"},
    ),
    "weight norm by a hook": (
        lambda: _linear(_normalized_by_hook(nn.Linear(4, 5))),
        (VECTOR,),
        {"a", "middle"},
    ),
    "weight norm by a hook, convolution": (
        lambda: _between(lambda: _normalized_by_hook(nn.Conv2d(4, 6, 3)), 6),
        (IMAGE,),
        {"a", "middle"},
    ),
    "linear parametrization": (
        lambda: _linear(_parametrized(nn.Linear(4, 5), Twice())),
        (VECTOR,),
        MIDDLE,
    ),
    "parametrized bias": (
        lambda: _linear(_parametrized(nn.Linear(4, 5), Twice(), "bias")),
        (VECTOR,),
        MIDDLE,
    ),
    "both parametrized": (
        lambda: _linear(_parametrized(_parametrized(nn.Linear(4, 5), Twice()), Twice(), "bias")),
        (VECTOR,),
        MIDDLE,
    ),
    "grouped and parametrized": (
        lambda: _between(lambda: _parametrized(nn.Conv2d(4, 6, 3, groups=2), Twice()), 6),
        (IMAGE,),
        MIDDLE,
    ),
    "transposed and parametrized": (
        lambda: _between(lambda: _parametrized(nn.ConvTranspose2d(4, 6, 3, groups=2), Twice()), 6),
        (IMAGE,),
        MIDDLE,
    ),
    "standardized": (
        lambda: _between(lambda: _parametrized(nn.Conv2d(4, 6, 3), Standardized()), 6),
        (IMAGE,),
        {"middle"},
    ),
    "computed in the graph": (lambda: _linear(Equalized()), (VECTOR,), MIDDLE),
    "standardized in the graph": (
        lambda: _between(lambda: StandardizedConvolution(4, 6, 3), 6),
        (IMAGE,),
        {"middle"},
    ),
    "rows as a number": (lambda: _linear(Flat(5, 4)), (_values(2, 3, 6),), MIDDLE),
    "rows as a number in a sum": (lambda: _linear(FlatBySum(5, 4)), (_values(2, 3, 6),), MIDDLE),
    "depthwise by function": (lambda: _between(lambda: Blur(4), 4), (IMAGE,), {"a"}),
    "deformable": (lambda: _between(Deformed, 6), (IMAGE,), {"a", "middle.conv"}),
    "deformable, masked, grouped": (
        lambda: _between(lambda: Deformed(groups=2, masked=True), 6),
        (IMAGE,),
        {"a", "middle.conv"},
    ),
    "deformable, two offsets": (
        lambda: _between(lambda: Deformed(offset_groups=2, masked=True), 6),
        (IMAGE,),
        {"a", "middle.conv"},
    ),
    "deformable function": (
        lambda: _between(DeformedByFunction, 6),
        (IMAGE,),
        {"a", "middle.conv"},
    ),
    "conditional norm": (lambda: _conditional(ConditionalNorm), (IMAGE, CLASSES), {"a"}),
    "conditional norm of two tables": (lambda: _conditional(TwoTables), (IMAGE, CLASSES), {"a"}),
    "bag, mean": (lambda: _bag("mean"), (WORDS,), {"a"}),
    "bag, sum": (lambda: _bag("sum"), (WORDS,), {"a"}),
    "bag, maximum": (lambda: _bag("max"), (WORDS,), {"a"}),
    "weighted bag": (
        _weighted_bag,
        (WORDS.flatten(), torch.tensor([0, 2, 3]), _values(6)),
        {"a"},
    ),
    "bag by function": (_bag_by_function, (WORDS,), {"a"}),
    "tied embeddings": (_tied_embeddings, (WORDS,), {"a"}),
    "mixed over time by a layer": (lambda: _mixed_over_time(True), (_values(2, 3, 6),), {"a"}),
    "mixed over time by a matrix": (lambda: _mixed_over_time(False), (_values(2, 3, 6),), {"a"}),
    "learned queries": (
        lambda: Net(lambda net, x: net.b(torch.tanh(net.a(x))), a=LearnedQueries(), b=_read(5)),
        (_values(2, 3, 6),),
        {"a.v"},
    ),
    "inner product": (
        lambda: Net(
            lambda net, x: torch.inner(torch.tanh(net.a(x)), net.b.weight),
            a=nn.Linear(6, 4),
            b=_read(4),
        ),
        (VECTOR,),
        {"a"},
    ),
    "used twice": (_used_twice, (VECTOR,), MIDDLE),
    "a layer without rows": (lambda: _without(0, 0), (VECTOR,), {"a"}),
    "a layer without columns": (lambda: _without(0, 3), (VECTOR,), {"a"}),
}
for rank, kind in TRANSPOSED.items():
    for groups in (1, 2):
        CASES[f"{rank}-d transposed, {groups} groups"] = (
            lambda rank=rank, kind=kind, groups=groups: _between(
                lambda: kind(4, 6, 3, stride=2, groups=groups, output_padding=1), 6, rank
            ),
            (SIGNALS[rank],),
            MIDDLE,
        )
    CASES[f"{rank}-d transposed, depthwise"] = (
        lambda rank=rank, kind=kind: _between(lambda: kind(4, 8, 3, groups=4), 8, rank),
        (SIGNALS[rank],),
        {"a"},
    )
    for groups in (1, 2):  # an image without a batch
        CASES[f"{rank}-d transposed, one image, {groups} groups"] = (
            lambda rank=rank, kind=kind, groups=groups: _between(
                lambda: kind(4, 6, 3, groups=groups), 6, rank
            ),
            (SIGNALS[rank][0],),
            MIDDLE,
        )
for rank, plain in CONVOLUTIONS.items():
    for groups in (1, 2):
        CASES[f"{rank}-d, one image, {groups} groups"] = (
            lambda rank=rank, kind=plain, groups=groups: _between(
                lambda: kind(4, 6, 3, groups=groups), 6, rank
            ),
            (SIGNALS[rank][0],),
            MIDDLE,
        )
    CASES[f"{rank}-d grouped"] = (
        lambda rank=rank, kind=plain: _between(
            lambda: kind(4, 6, 3, groups=2, bias=False), 6, rank
        ),
        (SIGNALS[rank],),
        MIDDLE,
    )


NUMBERS_IN_THE_GRAPH = {"depthwise by function", "rows as a number", "rows as a number in a sum"}
"""Cases whose old graph holds numbers of neurons, so that it does not run on grown parameters."""


def _model(case: str) -> tuple[nn.Module, tuple[Tensor, ...], set[str]]:
    torch.manual_seed(0)
    make, inputs, widths = CASES[case]
    model = make().double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features, dtype=torch.float64)
            module.running_var = 0.5 + torch.rand(module.num_features, dtype=torch.float64)
    return model, inputs, widths


@pytest.mark.parametrize("case", CASES)
def test_grow_grows_what_widen_grows(case: str) -> None:
    model, inputs, widths = _model(case)
    captured = capture(model, inputs)
    coupling, grown = assert_faithful(captured, regrows=case not in NUMBERS_IN_THE_GRAPH)
    assert {width.name for width in coupling.widths if width.growable} == widths
    assert not grown.refusals


@pytest.mark.parametrize("how", ["split", "new"])
@pytest.mark.parametrize("case", CASES)
def test_widen_keeps_the_function(case: str, how: Any) -> None:
    model, inputs, widths = _model(case)
    wider = fxgrow.widen(model, dict.fromkeys(widths, 3), inputs, how=how)
    assert wider.unchecked == ""
    torch.testing.assert_close(wider.module(*inputs), model(*inputs), rtol=0, atol=1e-12)


def test_the_perturbation_of_a_computed_weight_is_one_of_its_parameters() -> None:
    """theta +- eps delta, and not W +- eps delta: so the parametrization stays."""
    model, inputs, _ = _model("weight norm")
    captured = capture(model.requires_grad_(False), inputs)
    coupling = couple(captured)
    number = coupling.number_of["middle"]
    grown = overgrow(captured, coupling, [number], {}, torch.Generator())
    touched = {(entry.parameter, entry.axis) for entry in grown.entries}
    originals = "middle.parametrizations.weight.original"
    assert touched == {(f"{originals}0", 0), (f"{originals}1", 0), ("middle.bias", 0)}


def test_a_weight_that_no_parameter_has_the_shape_of_is_refused() -> None:
    class LowRank(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Parameter(torch.randn(5, 2)), nn.Parameter(torch.randn(2, 4))

        def forward(self, weight: Tensor) -> Tensor:
            return weight + self.left @ self.right

    model = _linear(_parametrized(nn.Linear(4, 5), LowRank())).double()
    captured = capture(model.eval().requires_grad_(False), (VECTOR,))
    coupling = couple(captured)
    split = [number for number, width in enumerate(coupling.widths) if width.growable]
    grown = overgrow(captured, coupling, split, {}, torch.Generator())
    assert {refusal.code for refusal in grown.refusals.values()} == {"no-rewrite"}
    assert not any(isinstance(m, OvergrownLayer) for m in grown.graph_module.modules())


def test_a_number_of_rows_in_the_code_of_a_weight_is_refused() -> None:
    model = _between(lambda: NumberOfRows(4, 6, 3), 6).double()
    captured = capture(model.eval().requires_grad_(False), (IMAGE,))
    coupling = couple(captured)
    number = coupling.number_of["middle"]
    grown = overgrow(captured, coupling, [number], {}, torch.Generator())
    assert grown.refusals[number].code == "no-rewrite"


class Masked(nn.Linear):
    """A layer some of whose weights are switched off, by its own code."""

    def __init__(self) -> None:
        super().__init__(4, 5)
        self.register_buffer("mask", (torch.rand(5, 4) > 0.5).double())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


def _pruned() -> nn.Module:
    layer = nn.Linear(4, 5)
    prune.random_unstructured(layer, "weight", 0.4)  # type: ignore[no-untyped-call]
    return layer


@pytest.mark.parametrize(
    ("middle", "reason"),
    [(Masked, "computed with the buffer middle.mask (a mask, say)"), (_pruned, "nn.utils.prune")],
)
def test_a_weight_that_is_masked_is_refused(middle: Callable[[], nn.Module], reason: str) -> None:
    """What new rows of a mask are, no candidate says."""
    captured = capture(_linear(middle()).double().eval().requires_grad_(False), (VECTOR,))
    coupling = couple(captured)
    number = coupling.number_of["middle"]
    grown = overgrow(captured, coupling, [number], {}, torch.Generator())
    assert grown.refusals[number].code == "no-rewrite"
    assert reason in str(grown.refusals[number].reason)


def test_a_formula_that_fails_is_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """Torch prints the code of a graph that fails; here it is only tried with twice as many rows."""

    class Inverse(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, torch.linalg.inv(self.weight), self.bias)

    model = Net(lambda net, x: net.b(net.a(x)), a=nn.Linear(6, 4), b=Inverse(4, 4))
    captured = capture(model.double().eval().requires_grad_(False), (VECTOR,))
    coupling = couple(captured)
    overgrow(captured, coupling, [coupling.number_of["a"]], {}, torch.Generator())
    assert capfd.readouterr().err == ""


def test_neurons_that_pass_a_product_with_candidates_are_refused() -> None:
    """A neuron that is new over features, at a time that is new, would have no place."""

    def forward(net: Any, x: Tensor) -> Tensor:
        hidden = net.t(torch.tanh(net.a(x)).transpose(1, 2))
        return net.b(torch.tanh(net.u(torch.tanh(hidden)).transpose(1, 2)))

    model = Net(forward, a=nn.Linear(6, 5), t=nn.Linear(3, 4), u=nn.Linear(4, 3), b=_read(5))
    captured = capture(model.double().eval().requires_grad_(False), (_values(2, 3, 6),))
    coupling = couple(captured)
    split = [number for number, width in enumerate(coupling.widths) if width.growable]
    grown = overgrow(captured, coupling, split, dict.fromkeys(split, 2), torch.Generator())
    (number,) = grown.refusals
    assert coupling.widths[number].name == "a"
    assert "leave t out" in grown.refusals[number].reason
    alone = couple(captured, only=["a"])
    number = alone.number_of["a"]
    grown = overgrow(captured, alone, [number], {number: 2}, torch.Generator())
    assert not grown.refusals
