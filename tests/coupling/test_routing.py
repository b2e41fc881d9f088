"""Tokens that are dealt out to experts by counts which go through a Python list or numpy."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.coupling import couple


class Mixture(nn.Module):
    """Three experts, one of which gets no tokens of the example."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 2)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 5)) for _ in range(3)
        )

    def forward(self, x: Tensor, chosen: Tensor) -> Tensor:
        h = self.a(x)
        return self.b(self.dealt(h, chosen.to(x.dtype).add(0.1).to(torch.long)))

    def dealt(self, h: Tensor, chosen: Tensor) -> Tensor:
        raise NotImplementedError

    def parts(self, h: Tensor, order: Tensor, counts: list[int]) -> Tensor:
        parts = torch.split(h[order], counts)
        results = [expert(part) for expert, part in zip(self.experts, parts, strict=True)]
        return torch.zeros_like(h).index_copy(0, order, torch.cat(results))


class ByList(Mixture):
    def dealt(self, h: Tensor, chosen: Tensor) -> Tensor:
        counts = torch.bincount(chosen, minlength=3).tolist()
        return self.parts(h, chosen.argsort(), counts)


class ByNumpy(Mixture):
    def dealt(self, h: Tensor, chosen: Tensor) -> Tensor:
        counts = torch.bincount(chosen, minlength=3).cpu().numpy()
        return self.parts(h, chosen.argsort(), counts.tolist())


X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
CHOSEN, OTHERS = torch.tensor([0, 2, 2, 0, 2, 0]), torch.tensor([1, 2, 1, 0, 1, 1])


@pytest.mark.parametrize("how", ["split", "new"])
@pytest.mark.parametrize("kind", [ByList, ByNumpy])
def test_experts_without_tokens_grow_with_the_others(kind: type[Mixture], how: Any) -> None:
    torch.manual_seed(0)
    model = kind().double().eval()
    names = {width.name for width in couple(model, (X, CHOSEN)).widths if width.growable}
    assert names == {"a", "experts.0.0", "experts.1.0", "experts.2.0"}
    wider = fxgrow.widen(model, dict.fromkeys(names, 2), (X, CHOSEN), how=how).module
    assert wider.get_submodule("experts.1.0").in_features == 7
    torch.testing.assert_close(wider(X, OTHERS), model(X, OTHERS), rtol=0, atol=1e-12)


def test_neurons_that_are_read_into_a_list_do_not_grow() -> None:
    class Listed(Mixture):
        def dealt(self, h: Tensor, chosen: Tensor) -> Tensor:
            return h * max(h[0].tolist())

    refusal = couple(Listed().double(), (X, CHOSEN)).by_name["a"].refusal
    assert refusal is not None
    assert (refusal.code, refusal.reason) == (
        "sliced",
        "its values are read one by one, outside of torch",
    )
