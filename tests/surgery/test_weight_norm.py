"""Gains of weight normalization keep the old entries of a weight, whatever axis changes."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxgrow.copying import copy_module
from fxgrow.coupling import couple
from fxgrow.errors import GrowthError
from fxgrow.growth.emit import emit
from fxgrow.growth.widen import widen
from fxgrow.surgery.index_map import Change
from fxgrow.surgery.weight_norm import normalized_weights

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")

Wrap = Callable[..., nn.Module]
WRAPS: dict[str, Wrap] = {
    "parametrization": nn.utils.parametrizations.weight_norm,
    "hook": nn.utils.weight_norm,
}
VECTOR, IMAGE = torch.randn(2, 5).double(), torch.randn(2, 3, 6, 6).double()


def linears(wrap: Wrap, dim: int | None) -> nn.Module:
    return nn.Sequential(wrap(nn.Linear(5, 6), dim=dim), nn.ReLU(), wrap(nn.Linear(6, 3), dim=dim))


def convolutions(wrap: Wrap, dim: int | None) -> nn.Module:
    last = nn.ConvTranspose2d(4, 3, 3)
    return nn.Sequential(
        wrap(nn.Conv2d(3, 6, 3), dim=dim),
        nn.ReLU(),
        wrap(nn.Conv2d(6, 4, 3), dim=dim),
        nn.ReLU(),
        wrap(last, dim=dim),
    )


NETWORKS: dict[str, tuple[Callable[[Wrap, int | None], nn.Module], Tensor, tuple[str, ...]]] = {
    "linear": (linears, VECTOR, ("0",)),
    "convolution": (convolutions, IMAGE, ("0", "2")),
}


@pytest.mark.parametrize("how", ["split", "new"])
@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("name", NETWORKS)
def test_widening_keeps_the_function(name: str, wrap: str, dim: int | None, how: Any) -> None:
    torch.manual_seed(0)
    make, example, widths = NETWORKS[name]
    module = make(WRAPS[wrap], dim).double()
    expected = module(example)
    wider = widen(module, dict.fromkeys(widths, 3), (example,), how=how).module
    torch.testing.assert_close(wider(example), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("wrap", WRAPS)
def test_weights_are_found_by_name(wrap: str) -> None:
    found = normalized_weights(linears(WRAPS[wrap], 0))
    assert [weight.dim for weight in found] == [0, 0]
    assert all(weight.gain.startswith(("0.", "2.")) for weight in found)


def test_sizes_of_the_old_form_follow() -> None:
    module = linears(WRAPS["hook"], 0).double()
    wider: Any = widen(module, {"0": 2}, (VECTOR,)).module
    assert (wider[0].out_features, wider[2].in_features) == (8, 8)


def test_a_norm_of_another_s_making_is_refused() -> None:
    class Own(nn.Module):
        """It normalizes parameters of its own, of which surgery does not know."""

        def __init__(self) -> None:
            super().__init__()
            self.g, self.v = nn.Parameter(torch.ones(3, 1)), nn.Parameter(torch.randn(3, 6))

        def forward(self, x: Tensor) -> Tensor:
            return x @ torch._weight_norm(self.v, self.g, 0).T

    widths = couple(nn.Sequential(nn.Linear(5, 6), Own()), (torch.zeros(2, 5),)).by_name
    refusal = widths["0"].refusal
    assert refusal is not None
    assert refusal.code in {"normalised", "nonlinear"}


@pytest.mark.parametrize("change", [Change((2, 0, 1, 1, 1, 3), new=2), Change((0, 1, 1, 0, 1, 1))])
@pytest.mark.parametrize("dim", [0, None])
@pytest.mark.parametrize("wrap", WRAPS)
def test_what_is_kept_of_a_weight_stays_when_neurons_go(
    wrap: str, dim: int | None, change: Change
) -> None:
    torch.manual_seed(0)
    module: Any = linears(WRAPS[wrap], dim).double()
    coupling = couple(module, (VECTOR,))
    module(VECTOR)  # the old form computes its weight as it runs
    before = module[2].weight.detach().clone()
    emit(module, coupling, {coupling.number_of["0"]: change}, {})
    kept = torch.tensor(change.times).nonzero().reshape(-1)
    weight = module[2].weight.detach()  # before any run: the old form keeps it beside its parts
    start = 0
    for neuron in kept.tolist():
        copies = weight[:, start : start + change.times[neuron]]
        torch.testing.assert_close(copies.sum(1), before[:, neuron], rtol=1e-12, atol=1e-12)
        start += change.times[neuron]
    assert weight[:, start:].eq(0).all()


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_broken_promise_leaves_the_gains_alone(wrap: str) -> None:
    """What is put back is what was there: gains are not changed in place."""

    class ScaledByLength(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            first: Any = self[0]
            last: Any = self[2]
            result: Tensor = last(torch.relu(first(x))) / torch.ones(first.out_features).sum()
            return result

    module = ScaledByLength(*linears(WRAPS[wrap], 0).children()).double()
    before = copy.deepcopy(dict(module.named_parameters()))
    with pytest.raises(GrowthError, match="computes something else"):
        widen(module, {"0": 2}, (VECTOR,), inplace=True)
    assert all(torch.equal(value, before[name]) for name, value in module.named_parameters())


def test_a_failure_leaves_the_gains_alone() -> None:
    module = linears(WRAPS["parametrization"], 0).double()
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(Exception, match="nothing"):
        widen(module, {"0": 2, "nothing": 1}, (VECTOR,), inplace=True)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_what_a_model_remembers_of_a_run_is_copied_without_its_history() -> None:
    class Keeps(nn.Linear):
        """It keeps its last output."""

        def forward(self, x: Tensor) -> Tensor:
            self.last = super().forward(x)
            return self.last

    module = Keeps(5, 3).double()
    output = module(VECTOR)
    copied = copy_module(module)
    assert copied.last.grad_fn is None
    assert torch.equal(copied.last, output)
    assert module.last is output
