"""Complex parameters couple, widen and grow like real ones."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow


class Linears(nn.Module):
    """Two complex layers; the nonlinear function works on the parts."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(5, 6, dtype=torch.complex128)
        self.b = nn.Linear(6, 3, dtype=torch.complex128)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x.to(self.a.weight.dtype))
        h = torch.complex(torch.tanh(h.real), torch.tanh(h.imag)) * h.conj()
        return self.b(h).abs()


class Spectral(nn.Module):
    """A Fourier layer: a matrix of complex weights per frequency."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs, 3, 3, dtype=torch.complex128))

    def forward(self, x: Tensor) -> Tensor:
        low = torch.fft.rfft2(x)[:, :, :3, :3]
        return torch.fft.irfft2(torch.einsum("bixy,ioxy->boxy", low, self.weight), s=x.shape[-2:])


class FourierOperator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lift = nn.Conv2d(3, 5, 1)
        self.first, self.beside = Spectral(5, 7), nn.Conv2d(5, 7, 1)
        self.second, self.head = Spectral(7, 4), nn.Linear(4, 3)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        h = self.lift(x)
        h = F.gelu(self.first(h) + self.beside(h))
        return self.head(self.second(h).mean((2, 3)))


MODELS: dict[str, tuple[Any, tuple[int, ...], list[int]]] = {
    "linears": (Linears, (4, 5), [6]),
    "fourier": (FourierOperator, (4, 3, 8, 8), [5, 7]),
}


def build(name: str) -> tuple[nn.Module, Tensor, list[int]]:
    make, shape, sizes = MODELS[name]
    torch.manual_seed(0)
    model = make()
    return model, torch.randn(shape, dtype=torch.float64), sizes


@pytest.mark.parametrize("how", ["split", "new"])
@pytest.mark.parametrize("name", MODELS)
def test_widening_keeps_the_function(name: str, how: Any) -> None:
    model, x, sizes = build(name)
    growing = [w for w in fxgrow.couple(model, x).widths if w.growable]
    assert [w.size for w in growing][: len(sizes)] == sizes
    wider = fxgrow.widen(model, {w.name: 2 for w in growing}, x, how=how).module
    assert any(p.is_complex() and p.imag.abs().min() >= 0 for p in wider.parameters())
    torch.testing.assert_close(wider(x), model(x), rtol=0, atol=1e-12)


def test_new_entries_have_imaginary_parts() -> None:
    model, x, _ = build("linears")
    wider = fxgrow.widen(model, {"a": 2}, x, how="new").module
    assert (wider.a.weight[6:].imag != 0).all()


@pytest.mark.filterwarnings("ignore:the candidates ran out:UserWarning")  # few, to be fast
@pytest.mark.parametrize("method", [fxgrow.Firefly(new=2, steps=2), fxgrow.RandomGrowth()])
@pytest.mark.parametrize("name", MODELS)
def test_growing_is_exact(name: str, method: Any) -> None:
    model, x, sizes = build(name)
    growth = fxgrow.grow(
        model,
        [(x, torch.tensor([0, 1, 2, 0]))],
        F.cross_entropy,
        method=method,
        budget=fxgrow.Budget(neurons=40),
    )
    assert growth.report.preservation_error < 1e-12 and growth.report.faithful_error < 1e-12
    assert [change.before for change in growth.report.widths][: len(sizes)] == sizes
