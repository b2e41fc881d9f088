"""What a config can describe grows alike in all layers, and can be loaded; nothing else grows."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.errors import GrowthError
from fxgrow.methods import AutoGrow

X = torch.randn(16, 4, generator=torch.Generator().manual_seed(0), dtype=torch.double)


class Config:
    """As those of Hugging Face: one number for all layers, and nothing of the head."""

    def __init__(self, hidden: int = 6, depth: int = 2) -> None:
        self.hidden, self.depth = hidden, depth

    def to_dict(self) -> dict[str, Any]:
        return {"hidden": self.hidden, "depth": self.depth}


class Model(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(Layer(config.hidden) for _ in range(config.depth))
        self.head = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x)  # type: ignore[no-any-return]


class Layer(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, hidden).double(), nn.Linear(hidden, 4).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x).tanh())  # type: ignore[no-any-return]


def model() -> Model:
    torch.manual_seed(0)
    return Model(Config()).eval()


def grown(model: nn.Module, **options: Any) -> fxgrow.Growth:
    batches = [(X, torch.sin(X[:, :2]))]
    return fxgrow.grow(
        model, batches, nn.functional.mse_loss, expressible=True, accept_no_gain=True, **options
    )


@pytest.mark.parametrize("method", [None, fxgrow.Firefly(new=2, steps=2)])
def test_what_grew_is_what_the_config_says(method: Any) -> None:
    growth = grown(model(), method=method)
    hidden = growth.module.config.hidden  # type: ignore[union-attr]
    assert [(w.width, w.after) for w in growth.report.widths] == [
        ("layers.0.up", hidden),
        ("layers.1.up", hidden),
    ]
    assert hidden > 6
    again = Model(growth.module.config)  # type: ignore[arg-type]
    again.load_state_dict(growth.module.state_dict())
    assert torch.equal(again(X), growth.module(X))
    assert growth.report.refusals["head.0"].code == "not-expressible"


def test_a_part_of_what_one_field_describes_does_not_grow() -> None:
    with pytest.raises(GrowthError, match="one neuron more of no width that can grow") as caught:
        grown(model(), only=["layers.0.*", "head.*"])
    assert caught.value.code == "not-expressible"


def test_a_model_without_a_config_is_refused() -> None:
    with pytest.raises(GrowthError, match="Sequential has no config") as caught:
        grown(model().head)
    assert caught.value.code == "not-expressible"


def test_a_method_that_inserts_layers_is_refused() -> None:
    with pytest.raises(GrowthError, match="AutoGrow inserts layers of which the config of Model"):
        grown(model(), method=AutoGrow(layers=1), budget=fxgrow.Budget(neurons=2, layers=1))


def test_what_does_not_go_together_is_taken_back() -> None:
    """One neuron more can be said, and more than one cannot."""

    class Strict(Model):
        def __init__(self, config: Config) -> None:
            if config.hidden > 7:
                raise ValueError("too wide")
            super().__init__(config)

    torch.manual_seed(0)
    strict = Strict(Config()).eval()
    before = copy.deepcopy(strict.state_dict())
    with pytest.raises(GrowthError, match="cannot describe what grew together") as caught:
        grown(strict, budget=fxgrow.Budget(neurons=8), inplace=True)
    assert caught.value.code == "not-expressible"
    assert all(torch.equal(before[name], tensor) for name, tensor in strict.state_dict().items())


def test_without_it_the_growth_is_warned_of_before_it_starts() -> None:
    with pytest.warns(UserWarning, match="Model has a config, which cannot describe layers that"):
        fxgrow.grow(model(), [(X, X[:, :2])], nn.functional.mse_loss, accept_no_gain=True)
