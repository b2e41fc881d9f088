import pytest
import torch

from fxgrow.continual import MasterSettings, Task, TaskOutcome, TrainSettings
from fxgrow.continual.master_strategy import MasterStrategy
from fxgrow.data import DataSet
from tests.continual.tiny import INPUTS, accuracy_on, model, tasks

SETTINGS = MasterSettings(train=TrainSettings(epochs=2, batch_size=16, lr=0.1))


def shortened(count: int) -> Task:
    task = tasks()[0]
    return Task(task.name, task.train.first(count), task.valid, task.test, task.classes)


def test_it_tells_what_the_master_tells() -> None:
    strategy = MasterStrategy(model(), INPUTS, settings=SETTINGS, target=0.0)
    stats = strategy.learn(tasks()[0])
    outcome = TaskOutcome.model_validate(stats.details)
    assert (stats.task, stats.growing_epochs, stats.seconds) == (
        outcome.task,
        0.0,
        outcome.seconds,
    )
    assert strategy.parameters == strategy.master.parameters == outcome.parameters
    assert accuracy_on(strategy, tasks()[0]) > 0.5 and not strategy.network("1").training


@pytest.mark.parametrize(("count", "steps"), [(17, 1), (18, 2)])
def test_one_image_alone_is_no_batch(
    count: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 17 images the last is left out of a pass, as batch norm cannot train on it; of 18 none is."""
    seen: list[int] = []

    def counted(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        seen.append(len(target))
        return torch.nn.functional.cross_entropy(output, target)

    strategy = MasterStrategy(model(), INPUTS, settings=SETTINGS)
    learn = strategy.master.learn
    monkeypatch.setattr(
        strategy.master, "learn", lambda *args, **kwargs: learn(*args, **kwargs, loss=counted)
    )
    strategy.learn(shortened(count))
    assert len(seen) == 2 * steps and sum(seen) == 2 * (count if steps == 2 else 16)


def test_the_seed_orders_the_images() -> None:
    assert isinstance(tasks()[0].train, DataSet)
    states = []
    for seed in (0, 0, 1):
        strategy = MasterStrategy(model(), INPUTS, settings=SETTINGS)
        strategy.learn(tasks()[0], seed=seed)
        states.append(strategy.master.tasks["1"].fingerprint)
    assert states[0] == states[1] != states[2]
