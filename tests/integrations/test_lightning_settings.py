"""What a Lightning trainer may be given that growth cannot work under is refused before training."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from fxgrow import Splitting
from fxgrow.errors import TrainingError
from fxgrow.training import AtEpochs, ByPromise, EqualPhases, OnPlateau, UntilNoGain

pl: Any = pytest.importorskip("lightning.pytorch")
pytestmark = pytest.mark.filterwarnings("ignore")

from fxgrow.integrations.lightning import GrowthCallback  # noqa: E402
from tests.integrations.fits import Classifier, callback, network, train  # noqa: E402

SETTINGS = {
    "strategy": ((), {"strategy": "ddp", "devices": 1}, "strategy DDPStrategy"),
    "average": (("EMAWeightAveraging",), {}, "the callback EMAWeightAveraging averages"),
    "swa": (("StochasticWeightAveraging",), {}, "the callback StochasticWeightAveraging averages"),
    "pruning": (("ModelPruning",), {}, "the callback ModelPruning keeps masks"),
}
ARGUMENTS = {"StochasticWeightAveraging": (0.1,), "ModelPruning": ("l1_unstructured",)}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_cannot_work_are_refused_before_training(name: str) -> None:
    kinds, options, sentence = SETTINGS[name]
    module, start = Classifier(), network().state_dict()
    others = [getattr(pl.callbacks, kind)(*ARGUMENTS.get(kind, ())) for kind in kinds]
    with pytest.raises(TrainingError, match=sentence) as caught:
        train(module, callback(), *others, **options)
    assert caught.value.code == "trainer-setting"
    assert all(torch.equal(module.network.state_dict()[key], start[key]) for key in start)


def test_a_precision_that_stores_weights_otherwise_is_refused() -> None:
    class Packed(pl.plugins.precision.Precision):  # type: ignore[misc]
        pass

    with pytest.raises(TrainingError, match="precision Packed stores weights") as caught:
        train(Classifier(), callback(), plugins=[Packed()])
    assert caught.value.code == "trainer-setting"


def test_a_second_growth_callback_is_refused() -> None:
    class Other(GrowthCallback):
        pass

    other = Other("network", loss_fn=nn.functional.cross_entropy, when=AtEpochs(epochs=(1,)))
    with pytest.raises(TrainingError, match="a second GrowthCallback would overwrite") as caught:
        train(Classifier(), callback(), other)
    assert caught.value.code == "trainer-setting"


OF_VALIDATION = OnPlateau(of="validation_loss", patience=1)


@pytest.mark.parametrize("options", [{"limit_val_batches": 0}, {"check_val_every_n_epoch": 2}])
def test_a_trigger_whose_validation_is_missing_is_refused_first(options: Any) -> None:
    with pytest.raises(TrainingError, match="the trainer does not validate then") as caught:
        train(Classifier(), callback(when=OF_VALIDATION, monitor="val_loss"), **options)
    assert caught.value.code == "no-validation"


@pytest.mark.parametrize(
    ("when", "name"), [(OF_VALIDATION, "monitor="), (UntilNoGain(), "monitor_accuracy=")]
)
def test_a_trigger_whose_validation_has_no_name_is_refused_first(when: Any, name: str) -> None:
    with pytest.raises(TrainingError, match=f"give {name}") as caught:
        callback(when=when)
    assert caught.value.code == "no-validation"


def test_a_metric_that_nobody_logs_is_named() -> None:
    growth = callback(when=OF_VALIDATION, monitor="valid_loss")
    with pytest.raises(TrainingError, match="by 'valid_loss', and what was measured is val_loss"):
        train(Classifier(), growth)


def test_a_trigger_reads_the_validation_accuracy() -> None:
    class Judged(Classifier):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            images, labels = batch
            right = self.network(images).argmax(1) == labels
            self.log("val_acc", right.float().mean())

    growth = callback(when=UntilNoGain(epochs=1, min_delta=0), monitor_accuracy="val_acc")
    train(Judged(), growth)
    assert growth.grower is not None and growth.grower.history.growths[:1] == (1,)
    accuracies = [one.validation_accuracy for one in growth.grower.history.measurements]
    assert all(one is not None and 0 <= one <= 1 for one in accuracies)


def test_a_trigger_that_compares_with_the_cost_of_training_is_refused() -> None:
    with pytest.raises(TrainingError, match="does not count") as caught:
        callback(when=ByPromise(), method=Splitting())
    assert caught.value.code == "no-promise"


def test_equal_phases_know_how_many_epochs_there_are() -> None:
    growth = callback(when=EqualPhases())
    train(Classifier(), growth)
    assert growth.grower is not None and growth.grower.history.growths == (1, 2)


def test_a_loader_without_growth_batches_is_refused_before_training() -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter([(torch.zeros(2, 4), torch.zeros(2).long())])

    pl.seed_everything(0, verbose=False)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    growth = callback(when=AtEpochs(epochs=(2,)))
    trainer = pl.Trainer(max_epochs=1, callbacks=[growth], accelerator="cpu", **quiet)
    with pytest.raises(TrainingError) as caught:
        trainer.fit(Classifier(), DataLoader(Stream(), batch_size=None))
    assert caught.value.code == "opaque-loader" and trainer.global_step == 0
