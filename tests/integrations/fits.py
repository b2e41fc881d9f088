"""A small module, its data and its callback, for the tests of growth under Lightning."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fxgrow import Budget, ZeroOutgoing
from fxgrow.training import AtEpochs

pl: Any = pytest.importorskip("lightning.pytorch")

from fxgrow.integrations.lightning import GrowingModule, GrowthCallback  # noqa: E402


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(self.inner(x).relu())


def residual() -> nn.Module:
    """A list of blocks, and a head after it."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Sequential(Residual(), Residual()), nn.Linear(4, 3))


class Classifier(GrowingModule):
    def __init__(self, rate: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network, self.rate = network(), rate

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        return nn.functional.cross_entropy(self.network(images), labels)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        self.log("val_loss", nn.functional.cross_entropy(self.network(images), labels))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=self.rate)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2)]


def loader(count: int = 64) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 4, generator=generator)
    labels = (images[:, :3] + images[:, 1:]).argmax(1)
    return DataLoader(TensorDataset(images, labels), batch_size=16)


def callback(**options: Any) -> GrowthCallback:
    given: dict[str, Any] = {
        "loss_fn": nn.functional.cross_entropy,
        "when": AtEpochs(epochs=(1, 2)),
        "grow_steps": 2,
        "method": ZeroOutgoing(),
        "budget": Budget(neurons=2),
        "accept_no_gain": True,
    }
    return GrowthCallback("network", **{**given, **options})


def fit(module: Any, growth: GrowthCallback, root: Path, epochs: int = 3, **options: Any) -> Any:
    pl.seed_everything(0, verbose=False)
    trainer = pl.Trainer(
        max_epochs=epochs,
        callbacks=[growth, pl.callbacks.ModelCheckpoint(root, save_top_k=-1, filename="{epoch}")],
        logger=False,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader(), loader(16), **options)
    return trainer


class Resumable(DataLoader[Any]):
    """A loader that goes on within an epoch, in an order of its own for each."""

    def __init__(self, data: Any) -> None:
        super().__init__(data, batch_size=16, shuffle=True, generator=torch.Generator())
        self.epoch, self.done, self.skip = 0, 0, 0

    def __iter__(self) -> Any:
        first, self.done, self.skip = self.skip, self.skip, 0
        self.generator.manual_seed(self.epoch)
        for number, batch in enumerate(super().__iter__()):
            if number >= first:
                self.done += 1
                if self.done == len(self):
                    self.epoch, self.done = self.epoch + 1, 0
                yield batch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.skip = state["epoch"], state["done"]


def train(module: Any, growth: GrowthCallback, *callbacks: Any, **options: Any) -> Any:
    """Fit, with what a trainer may be given beside a growth callback."""
    pl.seed_everything(0, verbose=False)
    has_checkpoints = any(isinstance(one, pl.callbacks.ModelCheckpoint) for one in callbacks)
    ckpt_path = options.pop("ckpt_path", None)
    given = {
        "max_epochs": 3,
        "logger": False,
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": has_checkpoints,
        "callbacks": [growth, *callbacks],
    }
    trainer = pl.Trainer(**{**given, **options})
    trainer.fit(module, Resumable(loader().dataset), loader(16), ckpt_path=ckpt_path)
    return trainer


def measured(growth: GrowthCallback) -> list[tuple[int, int, float]]:
    assert growth.grower is not None
    return [(one.epoch, one.step, one.loss) for one in growth.grower.history.measurements]
