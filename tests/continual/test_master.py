"""Nothing is forgotten, what was changed by hand is noticed, and what fails changes nothing."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fxgrow.continual import Master, TrainSettings
from fxgrow.continual.state import tensor_fingerprint
from fxgrow.coupling import couple
from fxgrow.errors import BudgetError, DataError, FxgrowError, InternalError, TrainingError
from fxgrow.growth import Budget
from fxgrow.surgery.resize import named_tensors
from tests.continual.zoo import CLASSES, SETTINGS, data, learn, master, reference_outputs, stream
from tests.networks import NETWORKS, images, network


@pytest.mark.parametrize("name", NETWORKS)
def test_earlier_networks_say_what_they_said_to_the_bit(name: str) -> None:
    """To images that the master's own check has never seen."""
    for earlier in stream(name).heard[:-1]:
        assert all(
            torch.equal(logits, stream(name).heard[-1][task]) for task, logits in earlier.items()
        )
    last = stream(name).heard[-1]
    assert [logits.shape[1] for logits in last.values()] == list(CLASSES.values())
    assert not torch.allclose(last["a"], last["c"])


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_compact_and_the_union_holds_them_all(name: str) -> None:
    learner, outcomes, _ = stream(name)
    sizes = {width.name: width.size for width in learner.union.coupling.widths}
    covered = {
        width: torch.zeros(sizes[width], dtype=torch.bool) for width in learner.union.full_masks
    }
    for (task, state), outcome in zip(learner.tasks.items(), outcomes, strict=True):
        own = {width.name: width.size for width in couple(learner.network(task), images()).widths}
        assert {width: own[width] for width in state.masks} == {
            w: int(mask.sum()) for w, mask in state.masks.items()
        }
        assert {w: use.used for w, use in outcome.widths.items()} == {
            w: own[w] for w in outcome.widths
        }
        for width, mask in state.masks.items():
            covered[width] |= mask
    assert all(mask.all() for mask in covered.values())
    assert (
        sum(use.unlocked + use.new for outcome in outcomes for use in outcome.widths.values()) > 0
    )
    assert {w: use.master for w, use in outcomes[-1].widths.items()} == {
        w: sizes[w] for w in outcomes[-1].widths
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_what_earlier_tasks_know_of_the_union_keeps_its_bits(name: str) -> None:
    """Every shared tensor of a later union begins with the earlier one's, whichever widths have grown."""
    learner = master(name)
    learn(learner, "a")
    before = {
        n: t.clone()
        for n, t in named_tensors(learner.union.network(learner.tasks["a"].masks, {})).items()
    }
    learn(learner, "b")
    after = named_tensors(learner.union.network(learner.tasks["a"].masks, {}))
    shared = before.keys() - learner.union.private
    assert shared and all(torch.equal(after[n], before[n]) for n in shared)
    assert tensor_fingerprint(learner.network("a")) == learner.tasks["a"].fingerprint


def test_an_unlocked_copy_replaces_its_original_in_the_new_task_alone() -> None:
    """The two lie in one union: the masks of both tasks differ, and so do the weights behind the difference."""
    learner = stream("block").master
    before, later = (learner.tasks[task].masks["up"] for task in ("a", "b"))
    copies = later & ~before
    assert copies.any() and (before & ~later).sum() >= copies.sum()
    old, new = (learner.network(task).get_submodule("up").weight for task in ("a", "b"))
    assert len(new) == later.sum() and not any(torch.equal(new[-1], row) for row in old)  # type: ignore[arg-type]


def test_connections_into_locked_neurons_exist_for_the_new_task_alone() -> None:
    """What reads the stem of the residual network is locked in part, and reads new neurons of the stem too."""
    learner = stream("residual").master
    a, b = (learner.tasks[task].masks for task in ("a", "b"))
    new, locked = b["stem"] & ~a["stem"], a["a1"] & b["a1"]
    assert new.any() and locked.any()
    into = learner.union.module.get_submodule("a1").weight[locked][:, new]  # type: ignore[index]
    assert (into.abs().amax((0, 2, 3)) > 0).all()
    assert learner.network("a").get_submodule("a1").weight.shape[1] == a["stem"].sum()  # type: ignore[index, union-attr]


def weight(learner: Master) -> None:
    learner.union.module.get_submodule("7").weight.data[0, 0] += 1e-15  # type: ignore[operator, union-attr]


def mask(learner: Master) -> None:
    learner.tasks["b"].masks["0"][-1] ^= True


def mean(learner: Master) -> None:
    learner.tasks["a"].own["1.running_mean"][0] *= 1 + 1e-15


def answer(learner: Master) -> None:
    learner.tasks["a"].reference_outputs[0][0, 0] += 1e-9


def test_where_it_is_already_it_stays() -> None:
    learner = stream("chain").master
    assert learner.device == torch.device("cpu") and learner.to("cpu") is learner


@pytest.mark.parametrize("change", [weight, mask, mean, answer])
def test_a_change_by_hand_is_noticed(change: Callable[[Master], None]) -> None:
    learner = copy.deepcopy(stream("chain").master)
    learner.check()
    change(learner)
    with pytest.raises(InternalError, match="was forgotten"):
        learner.check()


def test_nothing_is_learnt_into_a_master_that_has_forgotten() -> None:
    learner = master()
    learn(learner, "a")
    mean(learner)
    union = learner.union
    with pytest.raises(InternalError, match="task a was forgotten"):
        learn(learner, "b")
    assert learner.union is union and list(learner.tasks) == ["a"]


def state(learner: Master) -> tuple[object, ...]:
    tasks = {
        name: (one.fingerprint, {w: m.tolist() for w, m in one.masks.items()})
        for name, one in learner.tasks.items()
    }
    return tensor_fingerprint(learner.union.module), tasks, learner.union.module.training


def nan(_: object, __: Tensor) -> Tensor:
    return torch.tensor(float("nan"), requires_grad=True)


FAILURES: dict[str, tuple[type[FxgrowError], dict[str, object]]] = {
    "the loss is nan": (TrainingError, {"loss": nan}),
    "no image": (DataError, {"train": []}),
    "no validation image": (DataError, {"valid": []}),
}


@pytest.mark.parametrize("earlier", [(), ("a",)])
@pytest.mark.parametrize("failure", FAILURES)
def test_what_fails_changes_nothing(failure: str, earlier: tuple[str, ...]) -> None:
    learner = master()
    for task in earlier:
        learn(learner, task)
    before, (error, wrong) = state(learner), FAILURES[failure]
    arguments = {"train": data("b"), "valid": data("b"), "classes": 3} | wrong
    with pytest.raises(error):
        learner.learn("b", **arguments)  # type: ignore[arg-type]
    assert state(learner) == before
    learn(learner, "b")


def test_a_budget_that_buys_nothing_changes_nothing() -> None:
    learner = master()
    learn(learner, "a")
    before = state(learner)
    with pytest.raises(BudgetError):
        learn(learner, "b", budget=Budget(parameters=1))
    assert state(learner) == before


def test_an_interrupted_check_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = master()
    before = state(learner)

    def interrupted(_: Master) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Master, "check", interrupted)
    with pytest.raises(KeyboardInterrupt):
        learn(learner, "a")
    assert state(learner) == before


def test_names_that_are_known_and_those_that_are_not() -> None:
    learner = stream("block").master
    with pytest.raises(DataError, match="'a' was learnt already") as caught:
        learner.learn("a", [], [], classes=2)
    assert caught.value.code == "known-task"
    with pytest.raises(DataError, match=r"'z' was not learnt \(a, b, c\)") as caught:
        learner.network("z")
    assert caught.value.code == "unknown-task"
    with pytest.raises(DataError, match="none yet"):
        master().network("a")


def test_the_model_stays_as_it_is_and_the_seed_decides() -> None:
    model = nn.Sequential(*network("chain"), nn.Dropout(0.5))  # type: ignore[misc]
    model.eval()
    before = tensor_fingerprint(model)
    learners = [Master(model, images(), settings=SETTINGS) for _ in range(3)]
    for learner, seed in zip(learners, (0, 0, 1), strict=True):
        torch.rand(1)  # torch's own random numbers do not matter
        learner.learn("a", data("a"), data("a"), classes=2, seed=seed)
    first, again, other = (learner.tasks["a"].fingerprint for learner in learners)
    assert first == again != other and tensor_fingerprint(model) == before and not model.training


def test_parameters_are_the_shared_ones_and_each_tasks_own() -> None:
    """Each task's: a normalisation of 8 and a head of 5 per class. Shared: an embedding of 16, 9 per MLP neuron, 4."""
    learner, outcomes, _ = stream("block")
    up = len(learner.union.full_masks["up"])
    assert learner.parameters == 16 + 9 * up + 4 + sum(
        8 + 5 * classes for classes in CLASSES.values()
    )
    assert outcomes[-1].parameters == learner.parameters
    assert [o.network_parameters for o in outcomes] == [
        sum(p.numel() for p in learner.network(task).parameters()) for task in CLASSES
    ]


def test_a_network_of_a_task_can_be_changed_without_harm() -> None:
    learner = stream("chain").master
    network_of_a = learner.network("a")
    with torch.no_grad():
        for tensor in (*network_of_a.parameters(), *network_of_a.buffers()):
            tensor.zero_()
    learner.check()
    assert reference_outputs(learner, "a").abs().max() > 0


def test_training_is_as_it_is_set() -> None:
    """Without a learning rate to speak of, the first task is the model with a new head."""
    settings = SETTINGS.model_copy(
        update={"train": TrainSettings(epochs=1, lr=1e-300, momentum=0.0)}
    )
    model = network("block")
    learner = Master(model, images(), settings=settings)
    learner.learn("a", data("a"), data("a"), classes=2)
    learnt = learner.network("a")
    same = [
        torch.equal(p, dict(learnt.named_parameters())[n])
        for n, p in model.named_parameters()
        if "head" not in n
    ]
    assert all(same) and not torch.equal(learnt.head.weight, model.head.weight)  # type: ignore[arg-type, union-attr]
    assert isinstance(learnt, nn.Module) and type(learnt) is type(model)
