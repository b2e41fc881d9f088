"""Several optimizers share a model out: each grows along as the one alone would."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import LBFGS, SGD, AdamW, Muon, Optimizer

import fxgrow
from fxgrow import Firefly, FxgrowError, GrowthError
from fxgrow.surgery import STATE_RULES, join_groups, restore_on_failure

INPUTS = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def matrices(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.dim() == 2]


def others(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.dim() != 2]


def muon_and_adamw(model: nn.Module) -> list[Optimizer]:
    return [Muon(matrices(model), lr=0.02), AdamW(others(model), lr=0.01)]


def train(model: nn.Module, optimizers: Any, steps: int = 2) -> None:
    for _ in range(steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
        F.cross_entropy(model(INPUTS), LABELS).backward()
        for optimizer in optimizers:
            optimizer.step()


def held_by(optimizer: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def is_in(parameter: nn.Parameter, optimizer: Optimizer) -> bool:
    return any(held is parameter for held in held_by(optimizer))


@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("state", STATE_RULES)
def test_two_of_a_kind_do_what_one_does(state: Any, inplace: bool) -> None:
    """Two AdamW that share a model out are one AdamW, to the bit, by every rule of the state."""

    def grown(make: Callable[[nn.Module], list[Optimizer]]) -> dict[str, Any]:
        model = network()
        optimizers = make(model)
        train(model, optimizers)
        options: dict[str, Any] = {"state": state, "inplace": inplace, "seed": 3}
        wider = fxgrow.widen(model, {"0": 2}, INPUTS, how="new", optimizer=optimizers, **options)
        train(wider.module, wider.optimizers)
        again = fxgrow.widen(wider.module, {"2": 3}, INPUTS, optimizer=wider.optimizers, **options)
        train(again.module, again.optimizers)
        assert (again.optimizers[0] is optimizers[0]) == inplace
        return again.module.state_dict()

    one = grown(lambda model: [AdamW(model.parameters(), lr=0.01)])
    two = grown(lambda model: [AdamW(held(model), lr=0.01) for held in (others, matrices)])
    assert one["2.weight"].shape == (8, 8)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("state", ["padded", "reset-grown", "reset"])
@pytest.mark.parametrize("inplace", [True, False])
def test_muon_and_adamw(inplace: bool, state: Any) -> None:
    model = network()
    optimizers = muon_and_adamw(model)
    train(model, optimizers)
    method = Firefly(new=2, steps=1, refine_steps=1)
    options: dict[str, Any] = {"method": method, "inplace": inplace, "accept_no_gain": True}
    growth = fxgrow.grow(
        model, [(INPUTS, LABELS)], F.cross_entropy, optimizer=optimizers, state=state, **options
    )
    muon, adamw = growth.optimizers
    assert (muon is optimizers[0]) == (adamw is optimizers[1]) == inplace
    assert all(is_in(parameter, muon) for parameter in matrices(growth.module))
    assert all(is_in(parameter, adamw) for parameter in others(growth.module))
    before = [parameter.detach().clone() for parameter in growth.module.parameters()]
    train(growth.module, growth.optimizers)
    for old, parameter in zip(before, growth.module.parameters(), strict=True):
        assert not torch.equal(old, parameter) and parameter.isfinite().all()


def test_the_one_optimizer_of_several_is_asked_for() -> None:
    model = network()
    wider = fxgrow.widen(model, {"0": 2}, INPUTS, optimizer=muon_and_adamw(model))
    assert len(wider.optimizers) == 2
    with pytest.raises(GrowthError, match="Muon and AdamW grow along") as caught:
        _ = wider.optimizer
    assert caught.value.code == "several-optimizers"
    assert fxgrow.widen(model, {"0": 2}, INPUTS).optimizer is None


def overlapping(model: nn.Module) -> list[Optimizer]:
    return [AdamW(model.parameters()), SGD(model[2:].parameters())]  # type: ignore[index]


def forgotten(model: nn.Module) -> list[Optimizer]:
    return [Muon(matrices(model)), AdamW(others(model)[:2])]


def foreign(model: nn.Module) -> list[Optimizer]:
    return [AdamW(model.parameters()), SGD(network().parameters())]


def twice(model: nn.Module) -> list[Optimizer]:
    return [AdamW(model.parameters())] * 2


def with_history(model: nn.Module) -> list[Optimizer]:
    lbfgs = LBFGS(others(model))

    def closure() -> Any:
        lbfgs.zero_grad()
        loss = F.cross_entropy(model(INPUTS), LABELS)
        loss.backward()
        return loss

    lbfgs.step(closure)
    return [AdamW(matrices(model)), lbfgs]


REFUSED: dict[str, tuple[Callable[[nn.Module], list[Any]], str, str]] = {
    "in two": (overlapping, "shared-parameter", r"'2\.weight' is in AdamW and SGD"),
    "in none": (forgotten, "missing-optimizer", r"'4\.bias' is in none of Muon and AdamW"),
    "of another model": (foreign, "foreign-optimizer", "SGD holds no parameter of Sequential"),
    "the same twice": (twice, "shared-parameter", r"'0\.weight' is in AdamW and AdamW"),
    "one that cannot": (with_history, "optimizer-state", "LBFGS keeps"),
    "none at all": (lambda _: [], "bad-argument", "that is not empty"),
    "no optimizers": (lambda model: [AdamW(model.parameters()), 1], "bad-argument", r"r\[1\]=1"),
}


@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("name", REFUSED)
def test_lists_that_share_nothing_out_are_refused(name: str, inplace: bool) -> None:
    make, code, words = REFUSED[name]
    model = network()
    optimizers = make(model)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for grow in (
        lambda: fxgrow.grow(
            model, [(INPUTS, LABELS)], F.cross_entropy, optimizer=optimizers, inplace=inplace
        ),
        lambda: fxgrow.widen(model, {"0": 2}, INPUTS, optimizer=optimizers, inplace=inplace),
        lambda: fxgrow.Grower(
            model,
            optimizers,
            loss_fn=F.cross_entropy,
            when=fxgrow.training.AtEpochs(epochs=(1,)),
        ),
    ):
        with pytest.raises(FxgrowError, match=words) as caught:
            grow()
        assert caught.value.code == code
    after = model.parameters()
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_what_does_not_learn_needs_no_optimizer() -> None:
    model = network()
    model[4].requires_grad_(requires_grad=False)
    optimizers = [AdamW(model[0].parameters()), SGD(model[2].parameters())]
    wider = fxgrow.widen(model, {"0": 2}, INPUTS, optimizer=optimizers, inplace=True)
    assert wider.optimizers == tuple(optimizers)


def test_an_interrupt_puts_all_of_them_back() -> None:
    model = network()
    optimizers = muon_and_adamw(model)
    train(model, optimizers)
    before = [optimizer.state_dict() for optimizer in optimizers]

    def interrupted() -> None:
        fxgrow.widen(model, {"0": 2, "2": 2}, INPUTS, optimizer=optimizers, inplace=True)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), restore_on_failure(model, optimizers):
        interrupted()
    for old, optimizer in zip(before, optimizers, strict=True):
        new = optimizer.state_dict()
        assert new["param_groups"] == old["param_groups"]
        for number, kept in old["state"].items():
            for key, value in kept.items():
                assert torch.equal(value, new["state"][number][key])
    train(model, optimizers)


def test_new_layers_join_the_groups_of_what_lies_next() -> None:
    """Matrices go to the matrices that lie next, biases to the biases, whoever trains these."""
    model = network()
    near, far = model[:3], model[3:]
    adamw = AdamW(
        [
            {"params": others(near), "weight_decay": 0.0},
            {"params": [*others(far)], "weight_decay": 0.1},
        ]
    )
    optimizers = [SGD(matrices(far), lr=0.1), Muon(matrices(near)), adamw]
    method = Firefly(new=0, split=False, layers=2, at=("1",), steps=1, refine_steps=1)
    growth = fxgrow.grow(
        model,
        [(INPUTS, LABELS)],
        F.cross_entropy,
        method=method,
        budget=fxgrow.Budget(neurons=2, layers=1),
        optimizer=optimizers,
        accept_no_gain=True,
    )
    sgd, muon, adamw = growth.optimizers  # type: ignore[assignment]
    (record,) = growth.report.layers
    new = dict(growth.module.get_submodule(record.name).named_parameters())
    assert set(new) == {"incoming.weight", "incoming.bias", "outgoing.weight"}
    for name in ("incoming.weight", "outgoing.weight"):
        assert is_in(new[name], muon) and not is_in(new[name], sgd)
    (decay,) = (
        group["weight_decay"]
        for group in adamw.param_groups
        if any(held is new["incoming.bias"] for held in group["params"])
    )
    assert decay == 0.0
    train(growth.module, growth.optimizers)


def test_blocks_and_experts_join_their_originals() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.mlp = nn.LayerNorm(4), nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.mlp(self.norm(x))

    torch.manual_seed(0)
    model = nn.Sequential(nn.Sequential(Block(), Block()), nn.Linear(4, 3))
    optimizers = muon_and_adamw(model)
    deeper = fxgrow.deepen(model, {"0": 1}, INPUTS, optimizer=optimizers)
    sparse = fxgrow.upcycle(deeper.module, {"0.0.mlp": 2}, INPUTS, optimizer=deeper.optimizers)
    muon, adamw = sparse.optimizers
    assert len(held_by(muon)) == len(matrices(sparse.module)) == 10  # one of them the router's
    assert all(is_in(parameter, muon) for parameter in matrices(sparse.module))
    assert all(is_in(parameter, adamw) for parameter in others(sparse.module))
    train(sparse.module, sparse.optimizers)


def test_the_nearest_neighbor_of_as_many_dimensions_takes_what_is_new() -> None:
    matrix, bias, kernel = (nn.Parameter(torch.zeros(shape)) for shape in [(2, 2), (2,), (2, 2, 1)])
    untrained = nn.Parameter(torch.zeros(2))
    muon, sgd = Muon([matrix]), SGD([bias])
    new = [nn.Parameter(torch.zeros(shape)) for shape in [(3, 3), (3,), (3, 3, 3)]]
    near = [untrained, matrix, bias]
    # A kernel has no neighbor of three dimensions, so the nearest that is trained counts.
    model = nn.ParameterList([matrix, bias, untrained, kernel, *new])
    join_groups([muon, sgd], model, [(new[0], near), (new[1], near), (new[2], [bias, matrix])])
    assert list(map(id, held_by(muon))) == [id(matrix), id(new[0])]
    assert list(map(id, held_by(sgd))) == [id(bias), id(new[1]), id(new[2])]
    join_groups([muon, sgd], model, [(kernel, [untrained])])
    assert not is_in(kernel, muon) and not is_in(kernel, sgd)
    with pytest.raises(GrowthError, match="Muon takes matrices") as caught:
        join_groups([muon], model, [(kernel, near)])
    assert caught.value.code == "optimizer-state"


def test_what_is_new_gets_the_model_s_place_in_its_group() -> None:
    """What is kept by place goes along: ages of entries, and names."""
    torch.manual_seed(0)
    other, model = nn.Linear(2, 2), nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3))
    named = [("other." + name, parameter) for name, parameter in other.named_parameters()]
    named += [("net." + name, parameter) for name, parameter in model.named_parameters()]
    optimizer = AdamW(named)
    train_one = F.mse_loss(model(INPUTS), torch.zeros(8, 3))
    train_one.backward()
    optimizer.step()
    options: dict[str, Any] = {"optimizer": optimizer, "inplace": True, "state": "own-age"}
    fxgrow.widen(model, {"0": 2}, INPUTS, how="new", **options)
    (group,) = optimizer.param_groups
    ages = {group["param_names"][place]: kept for place, kept in group["grown_entries"].items()}
    first, between, last = (nn.Linear(8, 8, bias=False) for _ in range(3))
    deeper = nn.Sequential(first, model[0], between, model[1], last)
    near = [model[0].weight]
    join_groups([optimizer], deeper, [(layer.weight, near) for layer in (last, first, between)])
    (group,) = optimizer.param_groups
    expected = [*other.parameters(), *deeper.parameters()]
    assert list(map(id, group["params"])) == list(map(id, expected))
    names = [name for name, _ in deeper.named_parameters()]
    assert group["param_names"] == [
        "other.weight",
        "other.bias",
        *(f"net.{name}" for name in names),
    ]
    numbers = {"net.0": "net.1", "net.1": "net.3"}
    moved = {numbers[name[:5]] + name[5:]: kept for name, kept in ages.items()}
    found = {group["param_names"][place]: kept for place, kept in group["grown_entries"].items()}
    assert found == moved and moved
