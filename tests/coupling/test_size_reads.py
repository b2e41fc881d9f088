"""Numbers read off a grown axis: refused with the user's line where they change the function, allowed where not."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxgrow import capture, couple, widen
from fxgrow.errors import GrowthError
from tests.coupling.models import Net
from tests.coupling.size_cases import ALLOWED, BRANCHES, INPUT, VALUES, Between, sized


@pytest.mark.parametrize("name", VALUES)
def test_a_size_among_values_is_refused_with_its_line(name: str) -> None:
    refusal = couple(sized(VALUES[name]), INPUT).by_name["a"].refusal
    assert refusal is not None
    assert refusal.code == "size-value"
    assert "(size_cases.py:" in refusal.nodes[0]


@pytest.mark.parametrize("name", BRANCHES)
def test_a_branch_on_a_size_is_refused_with_its_line(name: str) -> None:
    refusal = couple(sized(BRANCHES[name]), INPUT).by_name["a"].refusal
    assert refusal is not None
    # A part that is taken by number is refused for that as well.
    assert refusal.code in ("size-branch", "sliced")
    assert "(size_cases.py:" in refusal.nodes[0]


@pytest.mark.parametrize("name", ALLOWED)
@pytest.mark.parametrize("more", [1, 5])
def test_sizes_of_shapes_and_settled_branches_grow(name: str, more: int) -> None:
    torch.manual_seed(0)
    model = sized(ALLOWED[name]).double().eval()
    x = INPUT.double()
    wider = widen(model, {"a": more}, x).module
    assert wider.b.in_features > 12
    torch.testing.assert_close(wider(x), model(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [*VALUES, "far away", "larger than now", "odd"])
def test_a_captured_model_refuses_too(name: str) -> None:
    if name == "numpy":
        pytest.skip("torch.fx cannot trace numpy's functions of a size")
    between: Between = (VALUES | BRANCHES)[name]
    refusal = couple(capture(sized(between), INPUT)).by_name["a"].refusal
    assert refusal is not None
    assert refusal.code in ("size-value", "size-branch")
    assert "(size_cases.py:" in refusal.nodes[0]


@pytest.mark.parametrize("more", [1, 2, 3, 12])
def test_every_size_is_refused_even_if_it_agrees_by_luck(more: int) -> None:
    model = sized(lambda h, net: h * 2 if h.shape[1] == 14 else h)
    with pytest.raises(GrowthError) as caught:
        widen(model, {"a": more}, INPUT)
    assert caught.value.code == "size-branch"


def test_chunks_that_do_not_divide_are_refused() -> None:
    def chunked(h: Tensor, net: Any) -> Tensor:
        return torch.cat([-part for part in h.chunk(7, 1)], 1)  # 6 parts of 2; of 24: 6 of 4

    refusal = couple(sized(chunked), INPUT).by_name["a"].refusal
    assert refusal is not None
    assert refusal.code == "sliced"
    assert "chunks" in refusal.reason


@pytest.mark.parametrize("split", [torch.chunk, torch.tensor_split])
@pytest.mark.parametrize("parts", [5, 9])
def test_uneven_parts_are_refused_even_if_there_are_as_many(split: Any, parts: int) -> None:
    def uneven(h: Tensor, net: Any) -> Tensor:
        return torch.cat([-part for part in split(h, parts, 1)], 1)

    refusal = couple(sized(uneven), INPUT).by_name["a"].refusal
    assert refusal is not None
    assert refusal.code == "sliced"


def test_a_rounded_part_is_refused() -> None:
    def padded(h: Tensor, net: Any) -> Tensor:
        return h.split(h.shape[1] // 5, 1)[0].repeat(1, 6)  # parts of 2, and of 3 from 15 on

    refusal = couple(sized(padded), INPUT).by_name["a"].refusal
    assert refusal is not None
    assert refusal.code in ("uneven", "fixed-code")


def test_only_the_width_that_is_read_is_refused() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        h = torch.tanh(net.a(x))
        return net.c(torch.tanh(net.b(h / h.shape[1])))

    model = Net(forward, a=nn.Linear(5, 4), b=nn.Linear(4, 6), c=nn.Linear(6, 3))
    widths = couple(model, INPUT).by_name
    assert widths["a"].refusal is not None
    assert widths["a"].refusal.code == "size-value"
    assert widths["b"].growable


class Attention(nn.Module):
    """Heads whose size is followed by an attribute of the module, and scaled by it or not."""

    def __init__(self, of_values: bool) -> None:
        super().__init__()
        self.heads, self.of_values = 2, of_values
        self.q, self.k, self.v = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(6, 8)
        self.out = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = (
            f(x).view(batch, length, self.heads, -1).transpose(1, 2)
            for f in (self.q, self.k, self.v)
        )
        scale = v.size(-1) ** -0.5 if self.of_values else q.size(-1) ** -0.5
        weights = (q @ k.transpose(-1, -2) * scale).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).reshape(batch, length, -1))


class LearnedQueries(nn.Module):
    """Attention whose queries are parameters: its scale is computed in torch's own code."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(3, 8))
        self.q, self.k = nn.Linear(8, 6), nn.Linear(8, 6)
        self.v, self.out = nn.Linear(8, 6), nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        queries = self.q(self.queries).expand(x.shape[0], -1, -1)
        attended = torch.nn.functional.scaled_dot_product_attention(queries, self.k(x), self.v(x))
        result: Tensor = self.out(attended)
        return result


def test_of_the_widths_of_a_module_the_one_that_changes_a_number_is_refused() -> None:
    torch.manual_seed(0)
    model, x = LearnedQueries().double().eval(), torch.randn(2, 5, 8, dtype=torch.float64)
    coupling = couple(model, (x,))
    refusal = coupling.by_name["k"].refusal
    assert refusal is not None
    assert refusal.code == "size-value"
    assert coupling.by_name["v"].growable
    torch.testing.assert_close(widen(model, {"v": 3}, (x,)).module(x), model(x))


@pytest.mark.parametrize("of_values", [False, True])
def test_attention_grows_exactly_or_refuses_the_heads(of_values: bool) -> None:
    torch.manual_seed(0)
    model, x = Attention(of_values).double().eval(), torch.randn(2, 5, 6).double()
    coupling = couple(model, x)
    amounts = {width.name: 1 for width in coupling.widths if width.growable}
    assert amounts or of_values
    if not amounts:
        return
    wider = widen(model, amounts, x)
    assert wider.preservation_error is not None
    assert wider.preservation_error < 1e-12


POWERS = range(2, 5)


def bjorck(w: Tensor) -> Tensor:
    """One step towards an orthonormal matrix."""
    return 1.5 * w - 0.5 * w @ w.t() @ w


def gram(w: Tensor) -> Tensor:
    """The product with the matrix of products of columns."""
    return w @ (w.T @ w)


def einsum(w: Tensor) -> Tensor:
    """The same in one einsum."""
    return torch.einsum("oi,pi,pj->oj", w, w, w)


@pytest.mark.parametrize("derive", [bjorck, gram, einsum])
@pytest.mark.parametrize("layer", ["a", "b"])
def test_a_weight_times_itself_is_refused(derive: Any, layer: str) -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        weights = {name: getattr(net, name).weight for name in "abc"}
        weights[layer] = derive(weights[layer])
        h = torch.tanh(x @ weights["a"].t())
        return torch.tanh(h @ weights["b"].t()) @ weights["c"].t()

    model = Net(
        forward,
        a=nn.Linear(5, 4, bias=False),
        b=nn.Linear(4, 6, bias=False),
        c=nn.Linear(6, 3, bias=False),
    )
    touched = {"a": {"a"}, "b": {"a", "b"}}[layer]
    widths = couple(model, INPUT).by_name
    for name in "ab":
        refusal = widths[name].refusal
        assert (refusal.code if refusal else "") == ("weight-product" if name in touched else "")


def test_a_product_of_two_weights_that_one_of_them_reads_grows() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        h = torch.tanh(net.a(x))
        joined = net.b.weight @ net.a.weight  # what a writes, b reads
        return net.b(h) + x @ joined.t()

    torch.manual_seed(0)
    model = Net(forward, a=nn.Linear(5, 4), b=nn.Linear(4, 3)).double().eval()
    assert couple(model, INPUT.double()).by_name["a"].growable
    error = widen(model, {"a": 3}, INPUT.double()).preservation_error
    assert error is not None
    assert error < 1e-12


def test_a_model_that_computes_otherwise_at_every_call_still_grows() -> None:
    calls = iter(range(1, 1000))

    def counting(h: Tensor, net: Any) -> Tensor:
        return h * next(calls)

    assert couple(sized(counting), INPUT).by_name["a"].growable


def _as_scale(net: Net, x: Tensor) -> Tensor:
    return net.b(torch.relu(net.a(x))) * net.scale.exp()


def _as_column(net: Net, x: Tensor) -> Tensor:
    return net.b(torch.relu(net.a(x)) * (2 * net.scale).sigmoid())


@pytest.mark.parametrize(
    ("forward", "shape", "is_buffer"),
    [(_as_scale, (), False), (_as_scale, (), True), (_as_scale, (1,), False), (_as_column, (4,), True),
     (_as_column, (4,), False)],
)  # fmt: skip
def test_parameters_and_buffers_of_one_number_are_no_sizes(
    forward: Any, shape: tuple[int, ...], is_buffer: bool
) -> None:
    """The scale of the logits of CLIP, or a gain that nobody has trained yet."""
    model = Net(forward, a=nn.Linear(5, 4), b=nn.Linear(4, 3)).double().eval()
    number = torch.full(shape, 0.3, dtype=torch.float64)
    if is_buffer:
        model.register_buffer("scale", number)
    else:
        model.scale = nn.Parameter(number)
    assert couple(model, INPUT.double()).by_name["a"].growable


@pytest.mark.parametrize("scale", POWERS)
def test_random_formulas_are_refused_unless_they_do_not_change(scale: int) -> None:
    """``h`` times a random formula of its size: refused, or the formula is the same for all sizes."""
    generator = torch.Generator().manual_seed(scale)
    for _ in range(10):
        a, b, c = torch.randint(1, 9, (3,), generator=generator).tolist()
        formula = partial(_formula, a, b, c, scale)
        model = sized(lambda h, net, formula=formula: h * formula(h.shape[1]))  # type: ignore[misc]
        is_constant = len({formula(size) for size in range(12, 200)}) == 1
        assert is_constant or not couple(model, INPUT).by_name["a"].growable


def _formula(a: int, b: int, c: int, scale: int, size: int) -> float:
    return [(size // a) % b, min(size * a, c * 30), (size + a) ** (1 / scale), -size % b + c][
        (a + b + c) % 4
    ]
