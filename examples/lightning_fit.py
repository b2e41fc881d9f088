"""A network that grows under Lightning's Trainer; its checkpoint is loaded as any other.

pip install 'fxgrow[lightning,data]'
python examples/lightning_fit.py
"""

import tempfile
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import fxgrow
from fxgrow.data import load_data
from fxgrow.integrations.lightning import GrowingModule, GrowthCallback
from fxgrow.training import EveryEpochs

digits = load_data("digits", channels=1, size=8)
loss_fn = nn.functional.cross_entropy


class Classifier(GrowingModule):
    """Four hidden neurons at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        return loss_fn(self.network(images), labels)

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.network.parameters(), lr=3e-3)


if __name__ == "__main__":
    pl.seed_everything(0, verbose=False)
    data = TensorDataset(digits.train.images, digits.train.labels)
    growth = GrowthCallback(
        "network",
        loss_fn=loss_fn,
        when=EveryEpochs(epochs=3),
        grow_steps=3,
        budget=fxgrow.Budget(neurons=4),
    )
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    quiet["enable_checkpointing"] = False  # it is saved by hand
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(max_epochs=12, accelerator="cpu", callbacks=[growth], **quiet)
        trainer.fit(Classifier(), DataLoader(data, batch_size=32, shuffle=True))
        trainer.save_checkpoint(Path(folder, "grown.ckpt"))
        loaded = Classifier.load_from_checkpoint(Path(folder, "grown.ckpt")).eval()
    accuracy = (loaded.network(digits.test.images).argmax(1) == digits.test.labels).float().mean()
    print(f"grown from 4 to {loaded.network[1].out_features} neurons, loaded: {accuracy:.1%}")
