"""Widths under a global response norm: new neurons by any number where eps can follow, else copies of all."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fxgrow
from fxgrow.errors import GrowthError
from fxgrow.methods import Firefly, GradientPool, ZeroOutgoing
from tests.growth.response_norms import (
    CLASSES,
    NORMS,
    SIZE,
    Ambiguous,
    Bare,
    Concatenated,
    Constant,
    Fused,
    GainFirst,
    Mlp,
    Norm,
    Rooted,
    Twice,
    WrittenOut,
    images,
)
from tests.networks import randomised

EXACT = 1e-12


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def made(norm: Norm, network: type[Mlp] = Mlp) -> Any:
    return randomised(network(norm))


def error(wider: nn.Module, model: nn.Module) -> float:
    """On other images than those of the check."""
    x = images(seed=1)
    with torch.no_grad():
        return float((wider(x) - model(x)).abs().max())


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("norm", NORMS)
def test_any_number_of_new_neurons_keeps_the_function(norm: str, count: int) -> None:
    model = made(NORMS[norm])
    wider = fxgrow.widen(model, {"up": count}, images(), how="new").module
    assert wider.up.weight.shape[0] == SIZE + count
    assert error(wider, model) < EXACT


def test_eps_follows_and_what_is_copied_keeps_its_own() -> None:
    model = made(Fused)
    wider = fxgrow.widen(model, {"up": SIZE}, images(), how="new").module
    assert (model.norm.eps, wider.norm.eps) == (0.1, pytest.approx(0.05))
    torch.testing.assert_close(wider.norm.weight[:SIZE], model.norm.weight / 2)
    again = fxgrow.widen(wider, {"up": SIZE}, images(), how="new").module
    assert again.norm.eps == pytest.approx(0.1 / 3)
    assert error(again, model) < EXACT


def test_what_is_new_learns() -> None:
    wider = fxgrow.widen(made(Fused), {"up": 2}, images(), how="new").module
    wider(images()).square().sum().backward()
    gradient = wider.up.weight.grad
    assert gradient.isfinite().all()
    assert gradient[SIZE:].abs().max() > 1e-6
    assert wider.norm.bias.grad[SIZE:].abs().max() > 1e-6


def test_all_neurons_split_alike_whatever_eps_is() -> None:
    model = made(Constant)
    wider = fxgrow.widen(model, {"up": SIZE}, images()).module
    assert wider.up.weight.shape[0] == 2 * SIZE
    assert error(wider, model) < EXACT


@pytest.mark.parametrize(
    ("norm", "network", "code", "reason"),
    [
        (Constant, Mlp, "fixed-eps", "adds 0.11 to a mean"),
        (Ambiguous, Mlp, "fixed-eps", "adds 0.1 to a mean"),
        (Bare, Twice, "fixed-eps", "no attribute of norm that this norm alone uses"),
        (Rooted, Mlp, "reduced", "no global response norm by torch.linalg.vector_norm"),
        (GainFirst, Mlp, "reduced", "no global response norm"),
        (Concatenated, Mlp, "reduced", "a statistic of it is used otherwise"),
    ],
)
def test_what_cannot_be_exact_names_the_sizes_that_work(
    norm: Norm, network: type[Mlp], code: str, reason: str
) -> None:
    model = made(norm, network)
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(GrowthError, match=reason) as refusal:
        fxgrow.widen(model, {"up": 1}, images(), how="new")
    assert refusal.value.code == code
    assert "how='split', 6, 12, ... neurons more" in str(refusal.value)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_a_growth_that_fails_leaves_eps_alone() -> None:
    class BySize(Mlp):
        def hidden(self, x: torch.Tensor) -> torch.Tensor:
            h = super().hidden(x)
            return h * torch.ones(h.shape[1], dtype=h.dtype).sum()

    model = made(Fused, BySize)
    with pytest.raises(GrowthError):
        fxgrow.widen(model, {"up": 1}, images(), how="new", inplace=True)
    assert model.norm.eps == 0.1
    assert model.up.weight.shape[0] == SIZE


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(images(seed), torch.arange(5) % CLASSES) for seed in range(6)]


def grown(model: nn.Module, method: Any, neurons: int = 4) -> Any:
    budget = fxgrow.Budget(neurons=neurons)
    loss = nn.functional.cross_entropy
    return fxgrow.grow(model, batches(), loss, method=method, only=("up",), budget=budget)


METHODS = (Firefly(new=6, steps=4, refine_steps=2, points=1), GradientPool(), ZeroOutgoing())


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("norm", ["fused, last", "written out"])
def test_neurons_are_candidates_of_grow(norm: str, method: Any) -> None:
    model = made(NORMS[norm])
    report = (growth := grown(model, method)).report
    assert growth.module.up.weight.shape[0] == SIZE + 4
    assert report.faithful_error < EXACT
    assert report.preservation_error < EXACT
    assert report.loss_after <= report.loss_before + EXACT
    if not isinstance(method, Firefly):
        assert error(growth.module, model) < EXACT


def test_grow_tells_why_a_width_stays() -> None:
    with pytest.raises(GrowthError, match=r"adds 0\.11 to a mean"):
        grown(made(Constant), ZeroOutgoing())


def test_the_history_grows_it_again(tmp_path: Path) -> None:
    first = made(WrittenOut)
    growth = grown(first, ZeroOutgoing())
    again = fxgrow.growth.regrow(copy.deepcopy(first), (images(),), growth.spec.history)
    again.load_state_dict(growth.module.state_dict())
    assert error(again, growth.module) == 0
    fxgrow.save(growth, tmp_path)
    assert error(fxgrow.load(tmp_path), growth.module) == 0


def test_timm() -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model("convnextv2_atto", depths=(1,) * 4, dims=(4, 4, 4, 4), num_classes=2)
    model, x = randomised(model), torch.randn(1, 3, 32, 32).double()
    first, last = "stages.0.blocks.0.mlp.fc1", "stages.3.blocks.0.mlp.fc1"
    wider = fxgrow.widen(model, {first: 3, last: 5}, x, how="new").module
    with torch.no_grad():
        assert (wider(x) - model(x)).abs().max() < EXACT
    assert wider.stages[3].blocks[0].mlp.grn.eps == pytest.approx(1e-6 * 16 / 21)
    # A depthwise convolution lies between the stream's writers and its layer norm.
    with pytest.raises(GrowthError, match=r"4, 8, \.\.\. neurons more"):
        fxgrow.widen(model, {"stem.0": 1}, x, how="new")
    wider = fxgrow.widen(model, {"stem.0": 4}, x).module
    with torch.no_grad():
        assert (wider(x) - model(x)).abs().max() < EXACT


def test_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ConvNextV2Config(hidden_sizes=[4, 4, 4, 4], depths=[1] * 4, image_size=32)
    model = randomised(transformers.ConvNextV2ForImageClassification(config))
    x, name = torch.randn(1, 3, 32, 32).double(), "convnextv2.encoder.stages.0.layers.0.pwconv1"
    with pytest.raises(GrowthError, match=r"adds 1e-06 .* 16, 32, \.\.\. neurons more") as refusal:
        fxgrow.widen(model, {name: 1}, x, how="new")
    assert refusal.value.code == "fixed-eps"
    wider = fxgrow.widen(model, {name: 16}, x).module
    with torch.no_grad():
        assert (wider(x).logits - model(x).logits).abs().max() < EXACT
    config = transformers.ConvNextV2Config(hidden_sizes=[8, 8, 8, 8], depths=[1] * 4, image_size=32)
    like = transformers.ConvNextV2ForImageClassification(config)
    bigger: Any = fxgrow.grow_to(model, like, x).module
    with torch.no_grad():
        assert (bigger(x).logits - model(x).logits).abs().max() < EXACT
