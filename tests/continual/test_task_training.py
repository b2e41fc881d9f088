"""When a task grows and when it does not, and how many passes that took."""

import pytest
from torch import Tensor, nn

from fxgrow.continual import Master, MasterSettings
from fxgrow.continual.ownership import Masks
from fxgrow.continual.reuse import select_reused
from fxgrow.coupling import Coupling
from fxgrow.growth import Budget, Objective
from fxgrow.training import cross_entropy
from tests.continual.zoo import BUDGET, EXPANSION, SETTINGS, data, learn, master
from tests.networks import images, network


class Counted:
    """A loss that counts what it is asked."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, output: object, target: Tensor) -> Tensor:
        self.seen += len(target)
        return cross_entropy(output, target)


def passes(learner: Master, task: str, target: float | None) -> tuple[float, float]:
    """Growing epochs as they were told, and passes of the loss beyond the training."""
    loss, batches = Counted(), data(task)
    outcome = learner.learn(
        task,
        batches,
        batches,
        classes=3 if task == "b" else 2,
        loss=loss,
        budget=BUDGET,
        target=target,
    )
    return outcome.growing_epochs, loss.seen / 16


def test_growing_epochs_are_the_passes_beyond_the_training() -> None:
    learner, training = master(), SETTINGS.train.epochs
    told, counted = passes(learner, "a", None)
    assert (told, counted) == (0, training)
    told, counted = passes(learner, "b", None)
    assert told == counted - training > SETTINGS.try_epochs


def test_a_first_task_that_misses_its_target_grows_and_trains_again() -> None:
    told, counted = passes(master(), "a", 1.0)
    assert told == counted - 2 * SETTINGS.train.epochs > 0


def test_a_target_that_is_reached_ends_the_matter() -> None:
    learner = master()
    assert passes(learner, "a", 0.0) == (0, SETTINGS.train.epochs)
    assert passes(learner, "b", 0.0) == (SETTINGS.try_epochs, SETTINGS.try_epochs)
    assert learner.union.full_masks == {} or {
        len(m) for m in learner.union.full_masks.values()
    } == {4, 5}
    outcome = learn(learner, "c", target=0.0)
    assert outcome.loss_before is outcome.loss_after is None and outcome.tried is not None
    assert all(
        use.unlocked == use.new == 0 and use.locked == use.master for use in outcome.widths.values()
    )


def test_the_first_task_unlocks_nothing() -> None:
    outcome = learn(master(), "a", target=1.0)
    assert (
        sum(use.new for use in outcome.widths.values())
        > 0
        == sum(use.unlocked for use in outcome.widths.values())
    )


def test_a_later_task_stays_within_its_budget_and_grows_down() -> None:
    learner = master("residual")
    learn(learner, "a")
    outcome = learn(learner, "b", budget=Budget(neurons=2))
    assert 0 < sum(use.unlocked + use.new for use in outcome.widths.values()) <= 2
    assert outcome.loss_before is not None and outcome.loss_after is not None
    assert outcome.loss_after <= outcome.loss_before


def test_at_most_the_share_is_left_out() -> None:
    settings = SETTINGS.model_copy(update={"leave_out": 0.0, "tolerance": 100.0})
    for share, least in ((0.0, 0), (0.5, 1)):
        learner = Master(network("chain"), images(), settings=settings.model_copy(update={"leave_out": share}),
                         expansion=EXPANSION)  # fmt: skip
        learn(learner, "a")
        widths = learn(learner, "b").widths.values()
        out = 13 - sum(use.locked + use.unlocked for use in widths)
        assert least <= out <= share * 13 and (share or out == 0)


def test_what_is_left_out_is_decided_on_batches_to_search_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else candidates would be scored on batches that had a part in what is there."""
    objectives: list[Objective] = []

    def watched(model: nn.Module, coupling: Coupling, objective: Objective, *rest: float) -> Masks:
        objectives.append(objective)
        return select_reused(model, coupling, objective, *rest)

    monkeypatch.setattr("fxgrow.continual.task_training.select_reused", watched)
    settings = SETTINGS.model_copy(update={"growth_batches": MasterSettings().growth_batches})
    learner = Master(network("chain"), images(), settings=settings, expansion=EXPANSION)
    learn(learner, "a")
    batches = data("b", 8 * 8)
    learner.learn("b", batches, batches, classes=3, budget=BUDGET)
    (objective,) = objectives
    seen = [target.data_ptr() for _, target in objective.batches]
    assert seen == [target.data_ptr() for _, target in batches[:4]]
