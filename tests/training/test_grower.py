"""Growth inside a training loop: what goes on, what grows along, and what is refused before."""

import copy
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import fxgrow
from fxgrow import Budget, Firefly, Grower, ZeroOutgoing
from fxgrow.errors import FxgrowError, GrowthError, SpecError, TrainingError
from fxgrow.methods import AutoGrow, Net2Wider
from fxgrow.training import (
    AtEpochs,
    AtSteps,
    ByPromise,
    EpochDone,
    EqualPhases,
    Event,
    EveryEpochs,
    GrowthDone,
    GrowthPhase,
    GrowthSkipped,
    GrowthStarted,
    JsonlLog,
    OnFullRank,
    OnPlateau,
    UntilNoGain,
    read_log,
    regrow_from_state,
)

LOSS = nn.functional.cross_entropy


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


class Net(nn.Module):
    """Convolution, batch norm, a zero-initialised layer and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.hidden = nn.Linear(4, 5)
        self.zero = nn.Linear(5, 5)
        self.head = nn.Linear(5, 3)
        nn.init.zeros_(self.zero.weight)
        for buffer in (self.norm.running_mean, self.norm.running_var):
            buffer.uniform_(0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.conv(x)).relu().mean((2, 3))
        h = self.hidden(h).relu()
        return self.head(h + self.zero(h).tanh())


def data(count: int = 4) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(16, 1, 6, 6, generator=generator),
            torch.randint(3, (16,), generator=generator),
        )
        for _ in range(count)
    ]


def train(model: nn.Module, optimizer: Any, steps: int = 2) -> float:
    losses = []
    for inputs, target in data(steps):

        def closure(inputs: Tensor = inputs, target: Tensor = target) -> Tensor:
            optimizer.zero_grad()
            loss = LOSS(model(inputs), target)
            loss.backward()
            return loss

        losses.append(float(optimizer.step(closure).detach()))
    return sum(losses) / len(losses)


def grower(model: nn.Module, optimizer: Any = None, **changes: Any) -> Grower:
    settings: dict[str, Any] = {
        "loss_fn": LOSS,
        "when": EveryEpochs(epochs=1),
        "method": ZeroOutgoing(),
        "budget": Budget(neurons=3),
        "grow_steps": 9,
        "accept_no_gain": True,
    }
    return Grower(model, optimizer, **(settings | changes))


def sgd(model: nn.Module, **options: Any) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), **({"lr": 0.05, "momentum": 0.9} | options))


def sizes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def test_in_place_everything_that_knows_the_model_goes_on() -> None:
    """Groups, scheduler, scaler, clipping, hooks of model and optimizer: the same objects."""
    model, seen, stepped = Net(), [], []
    quick, slow = (
        list(model.head.parameters()),
        [p for n, p in model.named_parameters() if "head" not in n],
    )
    optimizer = torch.optim.SGD(
        [{"params": slow}, {"params": quick, "lr": 0.5}], lr=0.1, momentum=0.9
    )
    scheduler = lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    model.hidden.register_forward_hook(lambda *_: seen.append("forward"))
    optimizer.register_step_post_hook(lambda *_: stepped.append("step"))
    parameters, groups = list(model.parameters()), optimizer.param_groups
    own = grower(model, optimizer)

    def epoch() -> float:
        for inputs, target in data(2):
            optimizer.zero_grad()
            loss = LOSS(model(inputs), target)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
        scheduler.step()
        return float(loss.detach())

    before = sizes(model)
    for _ in range(2):
        growth = own.step(data(), loss=epoch())
        assert growth is not None and growth.module is model and growth.optimizer is optimizer
    assert own.model is model and own.optimizer is optimizer
    assert sizes(model) != before
    assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))
    assert optimizer.param_groups is groups and [len(g["params"]) for g in groups] == [7, 2]
    seen.clear()
    stepped.clear()
    grown = {name: tensor.clone() for name, tensor in model.named_parameters()}
    epoch()
    assert len(seen) == 2 and len(stepped) == 2
    assert all(not torch.equal(grown[name], p) for name, p in model.named_parameters())
    assert [group["lr"] for group in groups] == pytest.approx([0.1 / 8, 0.5 / 8])


def test_a_copy_leaves_model_and_optimizer_as_they_were() -> None:
    model = Net()
    optimizer = sgd(model)
    train(model, optimizer)
    kept, moments = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    own = grower(model, optimizer, inplace=False)
    growth = own.step(data(), loss=1.0)
    assert growth is not None and own.model is growth.module is not model
    assert own.optimizer is growth.optimizer is not optimizer
    assert len(growth.spec.history) == 1
    torch.testing.assert_close(model.state_dict(), kept, rtol=0, atol=0)
    torch.testing.assert_close(optimizer.state_dict(), moments, rtol=0, atol=0)
    train(own.model, own.optimizer)
    torch.testing.assert_close(model.state_dict(), kept, rtol=0, atol=0)


SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 1, gamma=0.5),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 4),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=9),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o), lr_scheduler.StepLR(o, 1)], milestones=[2]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.StepLR(o, 2), lr_scheduler.ExponentialLR(o, 0.9)], o
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_go_on_with_the_copy(name: str) -> None:
    """Rates are what they are without growth."""

    def rates(grows: bool) -> list[float]:
        model = Net()
        optimizer = sgd(model)
        scheduler = SCHEDULERS[name](optimizer)
        own = grower(model, optimizer, inplace=False, schedulers=[scheduler], grow_steps=1)
        found = []
        for _ in range(4):
            train(own.model, own.optimizer, 1)
            is_plateau = isinstance(scheduler, lr_scheduler.ReduceLROnPlateau)
            scheduler.step(*((1.0,) if is_plateau else ()))
            found.append(own.optimizer.param_groups[0]["lr"])
            if grows:
                own.step(data(), loss=1.0)
        assert not grows or own.optimizer is not optimizer
        return found

    assert rates(grows=True) == rates(grows=False)
    assert len(set(rates(grows=True))) > 1


def test_a_scheduler_that_would_be_left_behind_is_refused() -> None:
    model = Net()
    optimizer = sgd(model)
    scheduler = lr_scheduler.StepLR(optimizer, 1)
    with pytest.raises(GrowthError, match="give schedulers=, or inplace=True") as caught:
        grower(model, optimizer, inplace=False)
    assert caught.value.code == "lost-scheduler"
    own = grower(model, optimizer, inplace=False, schedulers=[scheduler])
    assert own.step(data(), loss=1.0) is not None
    with pytest.raises(GrowthError) as caught:
        grower(model, sgd(model), inplace=False, schedulers=[scheduler])
    assert caught.value.code == "foreign-scheduler"


def average(model: nn.Module) -> AveragedModel:
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)


FOLLOWERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "exponential": average,
    "SWA": AveragedModel,
    "teacher": copy.deepcopy,
}


@pytest.mark.parametrize("method", [ZeroOutgoing(), Net2Wider(), Firefly(new=2, steps=2)])
@pytest.mark.parametrize("name", FOLLOWERS)
@pytest.mark.parametrize("inplace", [True, False])
def test_followers_grow_along_and_keep_their_function(
    name: str, method: Any, inplace: bool
) -> None:
    model = Net()
    optimizer = sgd(model)
    follower = FOLLOWERS[name](model)
    network = follower.module if isinstance(follower, AveragedModel) else follower
    own = grower(model, optimizer, method=method, inplace=inplace)
    own.follow(follower)
    images = torch.cat([inputs for inputs, _ in data()])
    for _ in range(2):
        train(own.model, own.optimizer)
        if isinstance(follower, AveragedModel):
            follower.update_parameters(own.model)
        before = copy.deepcopy(follower).eval()(images)
        count = dict(follower.named_buffers()).get("n_averaged", torch.zeros(())).clone()
        assert own.step(data(), loss=1.0) is not None
        assert sizes(network) == sizes(own.model)
        torch.testing.assert_close(
            copy.deepcopy(follower).eval()(images), before, rtol=0, atol=1e-12
        )
        assert torch.equal(dict(follower.named_buffers()).get("n_averaged", count), count)
    # It goes on averaging, or learning.
    if isinstance(follower, AveragedModel):
        follower.update_parameters(own.model)
        assert not torch.equal(copy.deepcopy(follower).eval()(images), before)


def test_an_average_starts_at_what_is_new() -> None:
    """What writes and carries a new neuron is the model's, what reads it is nothing yet."""
    model = Net()
    follower = average(model)
    own = grower(
        model, sgd(model), method=Firefly(new=3, steps=3), scope=fxgrow.Scope(only=("hidden",))
    )
    own.follow(follower)
    growth = own.step(data(), loss=1.0)
    assert growth is not None
    (change,) = growth.report.widths
    new = slice(change.after - change.new, change.after)
    assert change.new > 0
    assert torch.equal(follower.module.hidden.weight[new], model.hidden.weight[new])
    assert torch.equal(follower.module.hidden.bias[new], model.hidden.bias[new])
    assert model.head.weight[:, new].any() and not follower.module.head.weight[:, new].any()


def test_what_cannot_follow_is_refused() -> None:
    model = Net()
    own = grower(model)
    wider = fxgrow.widen(model, {"hidden": 1}, data()[0][0]).module
    for other, words in (
        (nn.Linear(2, 2), "do not both have"),
        (wider, "has shape"),
        (model, "shares"),
    ):
        with pytest.raises(GrowthError, match=words) as caught:
            own.follow(other)
        assert caught.value.code == "unlike-models"
    assert own.companions == []


def test_if_a_follower_fails_nothing_has_grown() -> None:
    """The follower computes something else by now: the model and all others stay as they are."""
    model = Net()
    optimizer = sgd(model)
    train(model, optimizer)
    first, second = copy.deepcopy(model), copy.deepcopy(model)
    own = grower(model, optimizer)
    own.follow(first)
    own.follow(second)
    second.forward = lambda x: first.conv(x).mean((2, 3)) * second.conv.weight.shape[0]  # type: ignore[method-assign]
    kept = [copy.deepcopy(one.state_dict()) for one in (model, first, second)]
    moments = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(FxgrowError):
        own.step(data(), loss=1.0)
    for one, state in zip((model, first, second), kept, strict=True):
        torch.testing.assert_close(one.state_dict(), state, rtol=0, atol=0)
    torch.testing.assert_close(optimizer.state_dict(), moments, rtol=0, atol=0)


OPTIMIZERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "Adafactor": (torch.optim.Adafactor, ""),
    "Adadelta": (torch.optim.Adadelta, ""),
    "Adagrad": (torch.optim.Adagrad, ""),
    "Adam": (torch.optim.Adam, ""),
    "AdamW": (lambda p: torch.optim.AdamW(p, amsgrad=True), ""),
    "Adamax": (torch.optim.Adamax, ""),
    "ASGD": (torch.optim.ASGD, ""),
    "LBFGS": (torch.optim.LBFGS, "optimizer-state"),
    # Of matrices alone; what else there is is left as it is here.
    "Muon": (lambda p: torch.optim.Muon([one for one in p if one.dim() == 2]), ""),
    "NAdam": (torch.optim.NAdam, ""),
    "RAdam": (torch.optim.RAdam, ""),
    "RMSprop": (lambda p: torch.optim.RMSprop(p, centered=True, momentum=0.9), ""),
    "Rprop": (torch.optim.Rprop, ""),
    "SGD": (lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9), ""),
}


@pytest.mark.parametrize("others", [False, True], ids=["alone", "shared"])
@pytest.mark.parametrize("inplace", [True, False], ids=["in place", "copy"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_on_or_is_refused(name: str, inplace: bool, others: bool) -> None:
    """All of torch's but SparseAdam, which takes no dense gradients; networks may share one."""
    make, code = OPTIMIZERS[name]
    model, other = Net(), nn.Linear(4, 3)
    optimizer = make([*model.parameters(), *(other.parameters() if others else ())])
    own = grower(model, optimizer, inplace=inplace, state="padded")

    def train_both() -> None:
        def both(x: Tensor) -> Tensor:
            scores = own.model(x)
            return scores + other(x.flatten(1)[:, :4]) if others else scores

        both.parameters = own.model.parameters  # type: ignore[attr-defined]
        train(both, own.optimizer)  # type: ignore[arg-type]

    train_both()
    kept, moments = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    if code:
        with pytest.raises(GrowthError, match=name) as caught:
            own.step(data(), loss=1.0)
        assert caught.value.code == code
        torch.testing.assert_close(model.state_dict(), kept, rtol=0, atol=0)
        torch.testing.assert_close(optimizer.state_dict(), moments, rtol=0, atol=0)
        return
    assert own.step(data(), loss=1.0) is not None
    grown = {key: tensor.clone() for key, tensor in own.model.named_parameters()}
    theirs = other.weight.clone()
    train_both()
    held = {id(p) for group in own.optimizer.param_groups for p in group["params"]}
    trained = [key for key, p in own.model.named_parameters() if id(p) in held]
    now = dict(own.model.named_parameters())
    assert (
        all(not torch.equal(grown[key], now[key]) for key in trained) and "hidden.weight" in trained
    )
    assert all(bool(p.isfinite().all()) for p in own.model.parameters())
    assert torch.equal(theirs, other.weight) is not others


def test_an_optimizer_of_another_network_is_refused_at_once() -> None:
    with pytest.raises(GrowthError) as caught:
        grower(Net(), sgd(nn.Linear(2, 2)))
    assert caught.value.code == "foreign-optimizer"


def test_a_frozen_backbone_stays_unless_asked() -> None:
    """Its parameters, and the widths between it and the rest; its batch norm keeps its statistics."""
    for grow_frozen in (False, True):
        model = Net()
        for frozen in (model.conv, model.norm):
            frozen.requires_grad_(requires_grad=False)
        model.norm.eval()
        kept = copy.deepcopy(model.state_dict())
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        own = grower(model, optimizer, budget=Budget(neurons=40), grow_frozen=grow_frozen)
        growth = own.step(data(), loss=1.0)
        assert growth is not None
        grown = {change.width for change in growth.report.widths}
        assert ("conv" in grown) is grow_frozen
        assert not model.conv.weight.requires_grad and not model.norm.weight.requires_grad
        assert not model.norm.training and model.hidden.training
        for name in ("conv.weight", "norm.weight", "norm.running_mean", "norm.running_var"):
            new = model.state_dict()[name]
            assert torch.equal(new[:4], kept[name]), name
            assert grow_frozen or new.shape == kept[name].shape


def test_layers_need_a_copy() -> None:
    """A deeper model is another module, so in place nothing would use it."""
    model = Net()
    method, budget = AutoGrow(layers=1), Budget(neurons=9, layers=1)
    own = grower(model, sgd(model), method=method, budget=budget)
    with pytest.raises(GrowthError, match="say inplace=False") as caught:
        own.step(data(), loss=1.0)
    assert caught.value.code == "companion-layers"
    own = grower(model, sgd(model), method=method, budget=budget, inplace=False)
    own.follow(copy.deepcopy(model))
    with pytest.raises(GrowthError) as caught:
        own.step(data(), loss=1.0)
    assert caught.value.code == "companion-layers"
    own.companions.clear()
    growth = own.step(data(), loss=1.0)
    assert growth is not None and len(growth.report.layers) == 1 and own.model is growth.module


TRIGGERS: list[tuple[Any, dict[str, Any], list[int]]] = [
    (EveryEpochs(epochs=2), {}, [2, 4]),
    (AtEpochs(epochs=(1, 4)), {}, [1, 4]),
    (AtSteps(steps=(25,)), {}, [3]),
    (EqualPhases(), {"epochs": 6}, [2, 4]),
    (OnPlateau(patience=1, min_delta=0.9), {}, [3, 5]),
    (UntilNoGain(epochs=1), {}, [1, 2]),
    (OnFullRank(share=0.01, epochs=2), {}, [2, 4]),
]


@pytest.mark.parametrize(("trigger", "options", "epochs"), TRIGGERS)
def test_the_trigger_says_when(trigger: Any, options: dict[str, Any], epochs: list[int]) -> None:
    model = Net()
    own = grower(model, when=trigger, grow_steps=2, **options)
    grown = []
    for epoch in range(1, 7):
        told = {"validation_loss": 1.0, "validation_accuracy": epoch / 10}
        if own.step(iter(data()), loss=1.0, step=epoch * 10, **told) is not None:
            grown.append(epoch)
    assert grown == epochs


def test_phases_of_nobody_knows_how_many_epochs_are_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(TrainingError, match="nothing would ever grow") as caught:
        grower(model, when=EqualPhases())
    assert caught.value.code == "no-epochs"


def test_by_promise() -> None:
    """A promise is kept if training delivers nothing; what was tried on the way leaves no trace."""
    for losses, grows in (([1.0, 1.0], True), ([1e6, 0.0], False)):
        model = Net()
        optimizer = sgd(model)
        train(model, optimizer)
        before = sizes(model)
        own = grower(model, optimizer, when=ByPromise(), method=Firefly(new=2, steps=4))
        for epoch, loss in enumerate(losses, start=1):
            own.step(iter(data()), loss=loss, multiply_adds=epoch * 1e6)
        assert (sizes(model) != before) is grows
        assert own.history.now.promise is not None and own.history.now.promise.gain > 0
    with pytest.raises(fxgrow.TrainingError) as caught:
        grower(Net(), when=ByPromise())
    assert caught.value.code == "no-promise"


def test_a_step_that_gains_nothing_counts_and_says_why() -> None:
    model = Net()
    for parameter in (model.head.weight, model.head.bias):
        nn.init.zeros_(parameter)

    class Nothing(Firefly):
        def refine(self, grown: Any, objective: Any) -> None:
            for eps in (grown.candidates.split_eps, grown.candidates.new_eps):
                eps.data.zero_()

    before, events = sizes(model), list[Event]()
    settings = {"accept_no_gain": False, "grow_steps": 1, "listeners": [events.append]}
    own = grower(model, method=Nothing(new=1, steps=1), **settings)
    assert own.step(data(), loss=1.0) is None
    assert "gained nothing" in own.skipped
    assert events[-1] == GrowthSkipped(1, 1, own.skipped)
    assert own.history.growths == (1,) and sizes(model) == before
    assert own.step(data(), loss=1.0) is None, "it was the only one"


def trained(grower: Grower, epochs: int) -> None:
    for _ in range(epochs):
        for images, labels in data():
            assert grower.optimizer is not None
            grower.optimizer.zero_grad()
            loss = LOSS(grower.model(images), labels)
            loss.backward()
            grower.optimizer.step()
        grower.step(data(), loss=float(loss.detach()))


def new_grower(model: nn.Module) -> Grower:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    options: dict[str, Any] = {"when": AtEpochs(epochs=(1, 3)), "grow_steps": 2}
    budget = Budget(neurons=2)
    return Grower(
        model,
        optimizer,
        loss_fn=LOSS,
        budget=budget,
        accept_no_gain=True,
        state="own-age",
        **options,
    )


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_grower_is_saved_and_goes_on(stop: int) -> None:
    torch.manual_seed(1)
    start = Net()
    whole = new_grower(copy.deepcopy(start))
    trained(whole, 4)
    half = new_grower(copy.deepcopy(start))
    trained(half, stop)
    kept = json.loads(json.dumps(half.state_dict()))
    model = regrow_from_state(copy.deepcopy(start), kept, data()[0][0])
    model.load_state_dict(half.model.state_dict())
    again = new_grower(model)
    assert half.optimizer is not None and again.optimizer is not None
    again.optimizer.load_state_dict(half.optimizer.state_dict())
    fxgrow.follow_ages(again.optimizer)
    again.load_state_dict(kept)
    trained(again, 4 - stop)
    assert model.conv.out_channels + model.hidden.out_features > 9  # type: ignore[operator, union-attr]
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name
    assert again.history == whole.history


HOSTILE_STATES: list[tuple[Any, str]] = [
    ({}, "missing-key"),
    ({"schema_version": 2, "history": {}, "grown": []}, "schema-version"),
    ({"schema_version": 1, "history": {"measurements": []}, "grown": [{"widths": 3}]}, "bad-value"),
    ({"schema_version": 1, "history": {"measurements": []}, "code": "import os"}, "unknown-key"),
    ({"schema_version": 1, "history": torch.zeros(2)}, "bad-value"),
]


@pytest.mark.parametrize(("state", "code"), HOSTILE_STATES)
def test_a_state_that_no_grower_has_written_is_refused(state: Any, code: str) -> None:
    grower = new_grower(Net())
    before = grower.history
    with pytest.raises(SpecError) as caught:
        grower.load_state_dict(state)
    assert caught.value.code == code
    assert grower.history is before


def test_losses_that_are_no_numbers_are_kept() -> None:
    grower = new_grower(Net())
    grower.step(data(), loss=float("nan"), epoch=9)
    other = new_grower(Net())
    other.load_state_dict(json.loads(json.dumps(grower.state_dict())))
    assert math.isnan(other.history.now.loss)


def test_triggers_that_measure_take_what_a_batch_loss_takes() -> None:
    """A batch is a dict here, so nobody but the loss knows what the model gets of it."""
    batches = [{"x": images, "y": labels} for images, labels in data()]
    loss = fxgrow.BatchLoss(lambda model, batch: LOSS(model(batch["x"]), batch["y"]))
    for when in (OnFullRank(share=0.01), ByPromise()):
        grower = Grower(
            Net(), loss_fn=loss, when=when, method=Firefly(new=1, steps=1), accept_no_gain=True
        )
        for loss_so_far in (1.0, 0.9, 0.8):
            grower.step(batches, loss=loss_so_far, multiply_adds=1e12 / loss_so_far)
        measured = grower.history.measurements
        assert any(one.spectra or one.promise for one in measured)


def test_listeners_hear_what_the_grower_was_told_and_what_grew(tmp_path: Path) -> None:
    events: list[Event] = []
    path, model = tmp_path / "log.jsonl", Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    heard = grower(model, optimizer, listeners=[events.append, JsonlLog(path)])
    train(model, optimizer)
    grown = heard.step(data(), loss=1.5, step=40, validation_loss=1.25)
    assert grown is not None
    first, started, *phases, last = events
    assert first == EpochDone(
        1, 0, 1.5, lr=0.1, optimizer_step=40, validation_loss=1.25, validation_accuracy=None
    )
    assert started == GrowthStarted(1, 1)
    assert {e.name for e in phases if isinstance(e, GrowthPhase)} == set(grown.report.timings)
    assert last == GrowthDone(1, 1, grown.report, optimizer_step=40)
    # The log needs no run around it.
    epoch, growth = read_log(path)
    assert epoch.event == "epoch" and growth.event == "growth"
    assert growth.widths == grown.report.widths and growth.test_loss_before is None
