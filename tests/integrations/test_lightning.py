"""Growth in Lightning's fit; what it saved is loaded and goes on."""

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from fxgrow import Budget, Firefly, Scope
from fxgrow.errors import TrainingError
from fxgrow.randomness import random_states, set_random_states
from fxgrow.training import AtEpochs, OnPlateau

pl: Any = pytest.importorskip("lightning.pytorch")
pytestmark = pytest.mark.filterwarnings("ignore")

from fxgrow.integrations.lightning import GrowthCallback  # noqa: E402
from tests.integrations.fits import (  # noqa: E402
    Classifier,
    callback,
    fit,
    loader,
    measured,
    network,
    residual,
    train,
)


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


def test_a_fit_that_bought_blocks_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    class Deep(Classifier):
        def __init__(self, rate: float = 0.01) -> None:
            super().__init__(rate)
            torch.manual_seed(0)
            self.network = residual()

    options: dict[str, Any] = {
        "method": Firefly(new=1, steps=1, refine_steps=0),
        "budget": Budget(parameters=0.7),
        "scope": Scope(blocks=("0",)),
        "when": AtEpochs(epochs=(1,)),
        "grow_steps": 1,
    }
    whole = Deep()
    fit(whole, callback(**options), tmp_path / "whole")
    assert len(whole.network[0]) > 2
    fit(Deep(), callback(**options), tmp_path / "half", epochs=2)
    again = Deep()
    fit(
        again, callback(**options), tmp_path / "again", ckpt_path=tmp_path / "half" / "epoch=1.ckpt"
    )
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_two_optimizers_of_one_network_grow_along(tmp_path: Path) -> None:
    class Two(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def configure_optimizers(self) -> Any:
            parameters = list(self.network.parameters())
            matrices = [parameter for parameter in parameters if parameter.dim() == 2]
            others = [parameter for parameter in parameters if parameter.dim() != 2]
            return [torch.optim.Muon(matrices, lr=0.01), torch.optim.AdamW(others, lr=0.01)]

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            for optimizer in self.optimizers():
                optimizer.zero_grad()
            self.manual_backward(loss)
            for optimizer in self.optimizers():
                optimizer.step()
            return loss.detach()

    module, growth = Two(), callback()
    trainer = fit(module, growth, tmp_path)
    assert growth.grower is not None and growth.grower.optimizers == tuple(trainer.optimizers)
    muon, adamw = trainer.optimizers
    first, norm = module.network[0], module.network[1]
    assert muon.state[first.weight]["momentum_buffer"].shape == (10, 4)
    assert adamw.state[norm.weight]["exp_avg"].shape == (10,)


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


def losses_of_batches(**options: Any) -> list[float]:
    """The mean of what ``training_step`` gives, epoch by epoch."""
    means: list[list[float]] = []

    class Noted(Classifier):
        def on_train_epoch_start(self) -> None:
            means.append([])

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            means[-1].append(float(loss.detach()))
            return loss

    growth = callback()
    train(Noted(), growth, **options)
    found = [loss for _, _, loss in measured(growth)]
    assert found == pytest.approx([sum(losses) / len(losses) for losses in means], rel=1e-6)
    return found


@pytest.mark.parametrize("batches", [1, 3])
def test_the_loss_is_the_mean_over_batches_however_many_make_a_step(batches: int) -> None:
    assert min(losses_of_batches(accumulate_grad_batches=batches)) > 0.9


def test_steps_are_those_of_the_optimizer_where_gradients_are_accumulated() -> None:
    growth = callback()
    module = Classifier()
    # Three of four batches, and the last one.
    train(module, growth, accumulate_grad_batches=3)
    assert [step for _, step, _ in measured(growth)] == [2, 4, 6]
    assert module.network[0].out_features == 10


@pytest.mark.parametrize("state", ["padded", "own-age"])
def test_a_fit_goes_on_from_every_step_with_the_same_bits(state: str, tmp_path: Path) -> None:
    def grows() -> GrowthCallback:  # what decides is the loss of whole epochs
        return callback(when=OnPlateau(patience=0, min_delta=0.5), state=state)

    saves = {"save_top_k": -1, "every_n_train_steps": 1, "filename": "{step}"}
    whole, growth = Classifier(), grows()
    train(whole, growth, pl.callbacks.ModelCheckpoint(tmp_path, **saves))
    assert growth.grower is not None and growth.grower.history.growths == (2, 3)
    # Within the first epoch, at its last batch, within the second one, and at the end of it.
    for step in (2, 4, 7, 8, 9):
        again, other = Classifier(), grows()
        train(again, other, ckpt_path=tmp_path / f"step={step}.ckpt")
        assert measured(other) == measured(growth), step
        for name, tensor in whole.state_dict().items():
            assert torch.equal(again.state_dict()[name], tensor), (step, name)


def test_a_fit_goes_on_from_a_validation_that_came_before_growth(tmp_path: Path) -> None:
    when = OnPlateau(patience=0, min_delta=0.5, of="validation_loss")
    saves = {"save_top_k": -1, "monitor": "val_loss", "filename": "{epoch}"}
    kept = pl.callbacks.ModelCheckpoint(tmp_path, save_on_train_epoch_end=False, **saves)
    growth = callback(when=when, monitor="val_loss")
    whole = Classifier()
    train(whole, growth, kept)
    assert growth.grower is not None and growth.grower.history.growths
    for epoch in (0, 1):
        again, other = Classifier(), callback(when=when, monitor="val_loss")
        train(again, other, ckpt_path=tmp_path / f"epoch={epoch}.ckpt")
        assert other.grower is not None
        assert other.grower.history == growth.grower.history
        for name, tensor in whole.state_dict().items():
            assert torch.equal(again.state_dict()[name], tensor), (epoch, name)


def test_a_trigger_waits_where_a_checkpoint_came_before_the_validation(tmp_path: Path) -> None:
    when = OnPlateau(patience=0, min_delta=0.5, of="validation_loss")
    saves = {"save_top_k": -1, "every_n_train_steps": 4, "filename": "{step}"}
    kept = pl.callbacks.ModelCheckpoint(tmp_path, **saves)
    train(Classifier(), callback(when=when, monitor="val_loss"), kept)
    growth = callback(when=when, monitor="val_loss")
    train(Classifier(), growth, ckpt_path=tmp_path / "step=4.ckpt")
    assert [epoch for epoch, _, _ in measured(growth)] == [2, 3]


def test_an_epoch_that_is_broken_off_does_not_grow_yet(tmp_path: Path) -> None:
    growth, kept = callback(), pl.callbacks.ModelCheckpoint(tmp_path, save_last=True)
    train(Classifier(), growth, kept, max_epochs=-1, max_steps=6)
    assert [(epoch, step) for epoch, step, _ in measured(growth)] == [(1, 4)]
    again, other = Classifier(), callback()
    train(again, other, ckpt_path=tmp_path / "last.ckpt")
    # Lightning goes on with the third epoch, and what the second one had to do is done first.
    assert [(epoch, step) for epoch, step, _ in measured(other)] == [(1, 4), (2, 6), (3, 10)]
    assert again.network[0].out_features == 10


class Manual(Classifier):
    """Steps its optimizer itself, and says nothing of its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss)
        optimizer.step()


def test_a_loss_that_nobody_told_is_not_a_loss_of_0() -> None:
    growth = callback()
    train(Manual(), growth)
    assert all(math.isnan(loss) for _, _, loss in measured(growth))


@pytest.mark.parametrize(
    ("precision", "dtype"), [("64-true", torch.float64), ("bf16-true", torch.bfloat16)]
)
def test_growth_batches_have_the_precision_of_the_module(precision: str, dtype: Any) -> None:
    module = Classifier()
    train(module, callback(), precision=precision)
    assert module.network[0].weight.dtype == dtype and module.network[0].out_features == 10


def test_growth_batches_pass_the_hooks_of_the_module() -> None:
    seen: list[bool] = []

    class Scaled(Classifier):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            seen.append(self.trainer.is_last_batch and not self.trainer.validating)
            return batch

    module = Scaled()
    train(module, callback(when=AtEpochs(epochs=(1,))), max_epochs=1)
    assert seen.count(True) > 1, "the batch that is the last, and those that it grew on"


@pytest.mark.parametrize("hook", ["scheduler", "clipping", "logger"])
def test_what_a_trainer_does_besides_goes_on(hook: str, tmp_path: Path) -> None:
    clipped: list[float] = []

    class Clipped(Classifier):
        def configure_gradient_clipping(self, optimizer: Any, *given: Any, **named: Any) -> None:
            self.clip_gradients(optimizer, 0.1, "norm")
            grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
            clipped.append(float(torch.stack([grad.norm() for grad in grads]).norm()))

    module = Clipped()
    logger = pl.loggers.CSVLogger(tmp_path)
    monitor = pl.callbacks.LearningRateMonitor()
    trainer = train(module, callback(), monitor, logger=logger, log_every_n_steps=1)
    if hook == "clipping":
        assert len(clipped) == 12 and max(clipped) <= 0.1 + 1e-6
    elif hook == "scheduler":  # StepLR with a step of 2 epochs
        assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.001)
        assert trainer.lr_scheduler_configs[0].scheduler.optimizer is trainer.optimizers[0]
    else:
        rows = (Path(logger.log_dir) / "metrics.csv").read_text()
        assert "lr-AdamW" in rows and rows.count("val_loss") == 1


def test_the_best_checkpoint_is_loaded_where_it_fits(tmp_path: Path) -> None:
    kept = pl.callbacks.ModelCheckpoint(tmp_path, monitor="val_loss", filename="best")
    last = Classifier()
    trainer = train(last, callback(), kept)
    losses = trainer.validate(last, loader(16), ckpt_path="best", verbose=False)
    assert losses[0]["val_loss"] == pytest.approx(float(kept.best_model_score))
    assert last.network[0].out_features == 10


def test_a_checkpoint_of_a_smaller_network_needs_a_new_module(tmp_path: Path) -> None:
    saves: dict[str, Any] = {"monitor": "val_loss", "mode": "max", "filename": "first"}
    # As it was validated: an epoch is saved after its growth else.
    saves["save_on_train_epoch_end"] = False
    kept, module = pl.callbacks.ModelCheckpoint(tmp_path, **saves), Classifier()
    trainer = train(module, callback(), kept)
    with pytest.raises(TrainingError, match="load it into a new module") as caught:
        trainer.validate(module, loader(16), ckpt_path="best", verbose=False)
    assert caught.value.code == "already-grown"
    losses = trainer.validate(Classifier(), loader(16), ckpt_path="best", verbose=False)
    assert losses[0]["val_loss"] == pytest.approx(float(kept.best_model_score))
    assert Classifier.load_from_checkpoint(kept.best_model_path).network[0].out_features == 6


def test_a_module_that_has_grown_goes_on_to_a_later_checkpoint(tmp_path: Path) -> None:
    module = Classifier()
    fit(module, callback(), tmp_path)
    early = Classifier.load_from_checkpoint(tmp_path / "epoch=0.ckpt")
    early.on_load_checkpoint(torch.load(tmp_path / "epoch=2.ckpt", weights_only=False))
    early.load_state_dict(module.state_dict())
    assert early.network[0].out_features == 10


def test_data_that_draws_random_numbers_leaves_those_of_the_trainer_alone() -> None:
    from fxgrow.integrations.loaders import own_randomness

    def drawn() -> list[float]:
        return [float(torch.rand(())), random.random(), float(np.random.rand())]

    states = random_states()
    expected = drawn()
    set_random_states(states)
    with own_randomness(5):
        first = drawn()
    assert drawn() == expected
    with own_randomness(5):
        assert drawn() == first != expected
