"""Products in all spellings of ``einsum``: the same neurons as by ``matmul``, and the same function when they grow."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from fxgrow.coupling import Coupling

einsum = torch.einsum
FLAT = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
DEEP = torch.randn(4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
LABELS = torch.tensor([0, 1, 2, 0])


class Net(nn.Module):
    """Hidden units ``h`` of a linear layer, and a function of them and of named weights."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor], shapes: dict[str, Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(5, 6)
        self.function = function
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(0.4 * torch.randn(shape)))
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, torch.tanh(self.first(x)))


ONE = {"w": (6, 3)}
TWO = {"w": (6, 7), "v": (7, 3)}
BATCHED = {"w": (3, 6, 7), "v": (3, 7, 3)}

# name: (function, input, shapes of the weights, sizes of the widths that grow)
GROWING: dict[str, tuple[Any, Tensor, dict[str, Any], list[int]]] = {
    "matmul": (lambda s, h: h @ s.w, FLAT, ONE, [6]),
    "explicit": (lambda s, h: einsum("bi,io->bo", h, s.w), FLAT, ONE, [6]),
    "implicit": (lambda s, h: einsum("bi,io", h, s.w), FLAT, ONE, [6]),
    "spaces": (lambda s, h: einsum(" b i , i o -> b o", h, s.w), FLAT, ONE, [6]),
    "upper case": (lambda s, h: einsum("Bi,iO", h, s.w), FLAT, ONE, [6]),
    "a list": (lambda s, h: einsum("bi,io->bo", [h, s.w]), FLAT, ONE, [6]),
    "ellipsis": (lambda s, h: einsum("...i,io->...o", h, s.w).mean(1), DEEP, ONE, [6]),
    "implicit ellipsis": (lambda s, h: einsum("...i,io", h, s.w).mean(1), DEEP, ONE, [6]),
    "sublists": (lambda s, h: einsum(h, [0, 1], s.w, [1, 2], [0, 2]), FLAT, ONE, [6]),
    "weight first": (lambda s, h: einsum("oi,bi->ob", s.w, h).t(), FLAT, {"w": (3, 6)}, [6]),
    "three operands": (lambda s, h: einsum("bi,ij,jo->bo", h, s.w, s.v), FLAT, TWO, [6, 7]),
    "weights before": (lambda s, h: einsum("ij,jo,bi->bo", s.w, s.v, h), FLAT, TWO, [6, 7]),
    "batched": (
        lambda s, h: einsum("bti,tio->bto", einsum("bti,tij->btj", h, s.w).tanh(), s.v).mean(1),
        DEEP, BATCHED, [6, 7],
    ),
    "bmm": (
        lambda s, h: torch.bmm(torch.bmm(h.transpose(0, 1), s.w).tanh(), s.v).mean(0),
        DEEP, BATCHED, [6, 7],
    ),
    "batched matmul": (
        lambda s, h: ((h.transpose(0, 1) @ s.w).tanh() @ s.v).mean(0), DEEP, BATCHED, [6, 7],
    ),
    "vectors": (
        lambda s, h: torch.stack([einsum("bi,i->b", h, s.w), h @ s.v, torch.mv(h, s.v)], 1),
        FLAT, {"w": (6,), "v": (6,)}, [6],
    ),
    "scales": (
        lambda s, h: einsum("bi,io->bo", einsum("bi,i->bi", h, s.u), s.w), FLAT, {**ONE, "u": (6,)}, [6],
    ),
    "tensordot": (lambda s, h: torch.tensordot(h, s.w, dims=1), FLAT, ONE, [6]),
    "low rank": (
        lambda s, h: einsum("br,ro->bo", einsum("bi,ir,bj,jr->br", h, s.w, h, s.u), s.v),
        FLAT, {"w": (6, 4), "u": (6, 4), "v": (4, 3)}, [6, 4],
    ),
}  # fmt: skip

# Some of their widths take no part in a growth, but widen.
WIDENING: dict[str, tuple[Any, Tensor, dict[str, Any], list[int]]] = {
    "experts": (
        lambda s, h: einsum("neh,ehd->nd", einsum("nd,edh->neh", h, s.w).tanh(), s.v),
        FLAT, {"w": (4, 6, 7), "v": (4, 7, 3)}, [6, 4, 7],
    ),
    "heads": (
        lambda s, h: einsum("bthk,hkd->btd", einsum("btd,dhk->bthk", h, s.w).tanh(), s.v).mean(1),
        DEEP, {"w": (6, 2, 4), "v": (2, 4, 3)}, [6, 2, 4],
    ),
    "two dimensions by tensordot": (
        lambda s, h: torch.tensordot(einsum("bi,ihk->bhk", h, s.w).tanh(), s.v, dims=2),
        FLAT, {"w": (6, 2, 4), "v": (2, 4, 3)}, [6, 2, 4],
    ),
    "bilinear weight": (
        lambda s, h: einsum("bi,oij,bj->bo", h, s.w, h), FLAT, {"w": (3, 6, 6)}, [6],
    ),
}  # fmt: skip
CASES = {**GROWING, **WIDENING}


def build(name: str) -> tuple[Net, Tensor, Coupling, list[int]]:
    function, x, shapes, sizes = CASES[name]
    model = Net(function, shapes)
    return model, x, fxgrow.couple(model, x), sizes


@pytest.mark.parametrize("how", ["split", "new"])
@pytest.mark.parametrize("name", CASES)
def test_widening_keeps_the_function(name: str, how: Any) -> None:
    model, x, coupling, sizes = build(name)
    growing = [width for width in coupling.widths if width.growable]
    assert [width.size for width in growing] == sizes
    amounts = {width.name: 2 for width in growing}
    wider = fxgrow.widen(model, amounts, x, how=how).module
    torch.testing.assert_close(wider(x), model(x), rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:the candidates ran out:UserWarning")  # few, to be fast
@pytest.mark.parametrize("name", CASES)
def test_growing_is_exact(name: str) -> None:
    model, x, _, sizes = build(name)
    if name == "bilinear weight":
        with pytest.raises(fxgrow.errors.GrowthError, match="w has neurons along axis"):
            fxgrow.grow(model, [(x, LABELS)], F.cross_entropy)
        return
    growth = fxgrow.grow(
        model,
        [(x, LABELS)],
        F.cross_entropy,
        method=fxgrow.Firefly(new=2, steps=2),
        budget=fxgrow.Budget(neurons=100),
        accept_no_gain=True,  # two steps need not find any
    )
    assert growth.report.preservation_error < 1e-12 and growth.report.faithful_error < 1e-12
    if name in GROWING:
        assert [change.before for change in growth.report.widths] == sizes
    for change in growth.report.widths:
        assert change.split == change.before and change.new == 2


def test_einsum_couples_what_matmul_couples() -> None:
    sites = []
    for name in ("batched", "batched matmul", "bmm"):
        _, _, coupling, _ = build(name)
        sites.append([(width.name, width.sites) for width in coupling.widths])
    assert sites[0] == sites[1] == sites[2]


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "diagonal": (lambda s, h: einsum("bi,ii->bi", h, s.w) @ s.v, {"w": (6, 6), "v": (6, 3)}, "sliced"),
    "trace": (lambda s, h: (h * einsum("ii->", s.w)) @ s.v + h @ s.w @ s.v, {"w": (6, 6), "v": (6, 3)}, "sliced"),
    "sum of its own": (lambda s, h: einsum("bi,bj->bi", h, h) @ s.v, {"v": (6, 3)}, "reduced"),
    "one for all": (lambda s, h: einsum("bi,ko->bo", h[:, :1], s.w), {"w": (1, 3)}, "reduced"),
    "two activations": (lambda s, h: einsum("bi,bi->b", h, h)[:, None] * s.v, {"v": (3,)}, "bilinear"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_an_equation_cannot_grow_is_refused(name: str) -> None:
    function, shapes, code = REFUSED[name]
    widths = fxgrow.couple(Net(function, shapes), FLAT).widths
    assert {width.refusal.code for width in widths[:1] if width.refusal} == {code}
