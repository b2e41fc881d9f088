"""Models as people have them on a GPU: they grow, keep the promises, and take optimiser, history and files along."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget, Firefly
from fxgrow.growth.replay import replay
from fxgrow.growth.scale import scale_widths
from fxgrow.methods import Splitting, from_scratch
from fxgrow.randomness import seeded
from fxgrow.training.network import capture_network as described
from tests.networks import images, network, randomised

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

CLASSES, SIDE = 10, 32
ROUNDING = 1e-4
SMALL = Firefly(new=2, steps=2, refine_steps=1, points=1)


def resnet() -> nn.Module:
    models = pytest.importorskip("torchvision.models")
    model: nn.Module = models.resnet18(num_classes=CLASSES)
    return scale_widths(model, (torch.zeros(2, 3, SIDE, SIDE),), 0.25)


def vit() -> nn.Module:
    models = pytest.importorskip("torchvision.models.vision_transformer")
    model = models.VisionTransformer(SIDE, 8, 2, 2, 16, 32, num_classes=CLASSES)
    return fxgrow.lower(randomised(model).float())


def dropping() -> nn.Module:
    """A transformer layer with dropout behind a projection of patches."""
    layer = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.2, batch_first=True, activation="gelu")
    patches = nn.Sequential(nn.Conv2d(3, 16, 8, 8), nn.Flatten(2))
    return fxgrow.lower(
        nn.Sequential(patches, Turned(), layer, nn.Flatten(), nn.Linear(256, CLASSES))
    )


class Turned(nn.Module):
    """From channels and places to places and channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2)


MODELS: dict[str, Callable[[], nn.Module]] = {"resnet": resnet, "vit": vit, "dropping": dropping}


def batches(count: int = 2) -> list[Any]:
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(count * 16, 3, SIDE, SIDE, generator=generator).cuda()
    y = torch.randint(0, CLASSES, (count * 16,), generator=generator).cuda()
    return list(zip(x.split(16), y.split(16), strict=True))


def built(name: str) -> nn.Module:
    with seeded(0):
        return MODELS[name]().cuda()


def stepped(model: nn.Module) -> torch.optim.Optimizer:
    """An optimiser that has seen a batch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x, y = batches()[0]
    F.cross_entropy(model.train()(x), y).backward()
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def grown(model: nn.Module, **options: Any) -> fxgrow.Growth:
    settings = {"method": SMALL, "budget": Budget(neurons=0.2)} | options
    return fxgrow.grow(
        model, batches(), F.cross_entropy, example_inputs=(batches()[0][0][:2],), **settings
    )


@pytest.mark.parametrize("layers", [0, 2], ids=["wider", "wider and deeper"])
@pytest.mark.parametrize("name", MODELS)
def test_the_promises_and_the_optimizer(name: str, layers: int) -> None:
    model = built(name)
    optimizer = stepped(model)
    growth = grown(model, optimizer=optimizer, method=SMALL.model_copy(update={"layers": layers}))
    report = growth.report
    assert report.faithful_error < ROUNDING
    assert report.preservation_error < ROUNDING
    assert report.loss_after <= report.loss_before + 1e-6
    assert sum(p.numel() for p in growth.module.parameters()) > sum(
        p.numel() for p in model.parameters()
    )
    assert all(one.is_cuda for one in (*growth.module.parameters(), *growth.module.buffers()))
    assert growth.optimizer is not None
    moments = [(p, state["exp_avg"]) for p, state in growth.optimizer.state.items()]
    assert moments and all(p.shape == m.shape and m.is_cuda for p, m in moments)
    x, y = batches()[1]
    F.cross_entropy(growth.module.train()(x), y).backward()
    growth.optimizer.step()


@pytest.mark.parametrize("name", MODELS)
def test_files_and_history(name: str, tmp_path: Path) -> None:
    model = built(name).eval()
    first = described(model, (batches()[0][0][:2],)).spec
    growth = grown(model)
    (again,) = replay(first, growth.spec.history)
    assert again.fingerprint == growth.spec.fingerprint
    fxgrow.save(growth, tmp_path / "spec")
    here, x = fxgrow.load(tmp_path / "spec").eval(), batches()[0][0]
    assert not any(p.is_cuda for p in here.parameters())
    with torch.no_grad():
        expected = growth.module.eval().cpu()(x.cpu())
        torch.testing.assert_close(here(x.cpu()), expected)
        torch.testing.assert_close(
            here.cuda()(x).cpu(), expected, rtol=1e-2, atol=1e-2
        )  # TF32 may be on


def test_random_numbers_go_on_as_before() -> None:
    model = built("dropping")
    here, there = torch.get_rng_state(), torch.cuda.get_rng_state()
    grown(model)
    assert torch.equal(torch.get_rng_state(), here)
    assert torch.equal(torch.cuda.get_rng_state(), there)


@pytest.mark.parametrize("how", ["split", "new"])
def test_widening(how: Any) -> None:
    model, x = network("residual").cuda(), images(4).cuda()
    width = next(w for w in fxgrow.couple(model, (x,)).widths if w.growable)
    wider = fxgrow.widen(model, {width.name: 2}, (x,), how=how).module
    torch.testing.assert_close(wider(x), model(x))


@pytest.mark.parametrize(
    "options",
    [
        {"method": Splitting()},
        {"budget": Budget(latency=0.5, neurons=4)},
        {"budget": Budget(parameters=0.2, multiply_adds=0.3, activation_memory=0.3)},
        {"tie": [["a*"]]},
        {"only": ["a1"]},
        {"inplace": True},
    ],
    ids=["splitting", "latency", "costs", "tie", "only", "in place"],
)
def test_options(options: dict[str, Any]) -> None:
    x, y = images(8).cuda(), torch.tensor([0, 1] * 4).cuda()
    model = network("residual").cuda()
    settings = {"method": Firefly(new=2, steps=2), "budget": Budget(neurons=4)} | options
    growth = fxgrow.grow(model, [(x, y)], F.cross_entropy, example_inputs=(x,), **settings)
    assert growth.report.faithful_error < 1e-10


def test_from_scratch() -> None:
    assert all(p.is_cuda for p in from_scratch(network("grouped").cuda()).parameters())
