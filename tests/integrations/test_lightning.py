"""Growth in Lightning's fit; what it saved is loaded and goes on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from fxgrow import Budget, ZeroOutgoing
from fxgrow.errors import TrainingError
from fxgrow.training import AtEpochs, OnPlateau

pl: Any = pytest.importorskip("lightning.pytorch")
pytestmark = pytest.mark.filterwarnings("ignore")

from fxgrow.integrations.lightning import GrowingModule, GrowthCallback  # noqa: E402


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


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


def test_it_grows_in_fit_and_the_optimizer_goes_on(tmp_path: Path) -> None:
    module, growth = Classifier(), callback()
    trainer = fit(module, growth, tmp_path)
    assert module.network[0].out_features == 10
    (optimizer,) = trainer.optimizers
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(parameter) for parameter in module.network.parameters()}
    assert optimizer.state[module.network[0].weight]["exp_avg"].shape == (10, 4)
    assert growth.grower is not None and len(growth.grower.history.growths) == 2


def test_a_checkpoint_loads_into_a_module_of_the_start(tmp_path: Path) -> None:
    module = Classifier()
    fit(module, callback(), tmp_path)
    loaded = Classifier.load_from_checkpoint(tmp_path / "epoch=2.ckpt")
    assert loaded.network[0].out_features == 10
    x = torch.randn(5, 4)
    assert torch.equal(loaded.eval().network(x), module.eval().network(x))
    early = Classifier.load_from_checkpoint(tmp_path / "epoch=0.ckpt")
    assert early.network[0].out_features == 8


@pytest.mark.parametrize("stop", [1, 2])
def test_a_fit_that_was_stopped_ends_with_the_same_bits(stop: int, tmp_path: Path) -> None:
    whole = Classifier()
    fit(whole, callback(), tmp_path / "whole")
    fit(Classifier(), callback(), tmp_path / "half", epochs=stop)
    again = Classifier()
    kept = tmp_path / "half" / f"epoch={stop - 1}.ckpt"
    fit(again, callback(), tmp_path / "again", ckpt_path=kept)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_a_trigger_reads_the_logged_validation_loss(tmp_path: Path) -> None:
    growth = callback(when=OnPlateau(patience=1), monitor="val_loss")
    fit(Classifier(), growth, tmp_path, epochs=2)
    assert growth.grower is not None
    losses = [measured.validation_loss for measured in growth.grower.history.measurements]
    assert len(losses) == 2 and all(loss is not None and loss > 0 for loss in losses)


def test_a_module_whose_checkpoints_would_not_load_is_refused(tmp_path: Path) -> None:
    class Plain(pl.LightningModule):  # type: ignore[misc]
        training_step, validation_step = Classifier.training_step, Classifier.validation_step
        configure_optimizers = Classifier.configure_optimizers

        def __init__(self) -> None:
            super().__init__()
            self.network, self.rate = network(), 0.1

    with pytest.raises(TrainingError, match="Plain could not be loaded after growth") as caught:
        fit(Plain(), callback(), tmp_path)
    assert caught.value.code == "not-growing"


def test_two_optimizers_of_one_network_are_refused(tmp_path: Path) -> None:
    class Two(Classifier):
        def configure_optimizers(self) -> Any:
            first, last = self.network[0], self.network[3]
            return [torch.optim.SGD(layer.parameters(), lr=0.1) for layer in (first, last)]

        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None

    with pytest.raises(TrainingError, match="2 optimizers train parts") as caught:
        fit(Two(), callback(), tmp_path)
    assert caught.value.code == "several-optimizers"


def test_data_without_a_batch_size_needs_batches_of_the_caller() -> None:
    from fxgrow.integrations.loaders import growth_loader

    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter([(torch.zeros(2, 4), torch.zeros(2).long())])

    with pytest.raises(TrainingError, match="growth batches cannot be taken from a DataLoader"):
        growth_loader(DataLoader(Stream(), batch_size=None), 0)
    assert len(list(growth_loader(DataLoader(Stream(), batch_size=1), 0))) == 1


def test_growth_batches_leave_random_numbers_and_the_loader_alone() -> None:
    from fxgrow.integrations.loaders import growth_loader

    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = [labels for _, labels in growth_loader(loader(), 5)]
    again = [labels for _, labels in growth_loader(loader(), 5)]
    other = [labels for _, labels in growth_loader(loader(), 6)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
