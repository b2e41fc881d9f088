"""Every optimizer of torch goes on after a growth, or is refused before work is spent."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Firefly, GrowthError, NewEntryRate
from fxgrow.copying import copy_with_optimizers
from fxgrow.surgery import STATE_RULES

INPUTS = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
QUICK = Firefly(new=2, steps=1, refine_steps=1)
LATER = {"LBFGS", "SparseAdam", "Muon"}  # each has tests of its own
OPTIMIZERS = [
    kind
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and name not in LATER | {"Optimizer"}
]


def network(outputs: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, outputs))


def stepped(optimizer: Any, model: Callable[[Tensor], Tensor]) -> Any:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(INPUTS), LABELS)
        loss.backward()
        return loss

    optimizer.step(closure)
    return optimizer


def grown(model: nn.Module, optimizer: Any, **options: Any) -> Any:
    batches = [(INPUTS, LABELS)]
    return fxgrow.grow(
        model, batches, F.cross_entropy, optimizer=optimizer, method=QUICK, **options
    )


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_goes_on(kind: Any, inplace: bool) -> None:
    model = network()
    optimizer = stepped(kind(model.parameters(), lr=0.01), model)
    growth = grown(model, optimizer, inplace=inplace)
    before = [parameter.clone() for parameter in growth.module.parameters()]
    stepped(growth.optimizer, growth.module)
    after = list(growth.module.parameters())
    assert any(not torch.equal(x, y) for x, y in zip(before, after, strict=True))
    assert all(parameter.isfinite().all() for parameter in after)


@pytest.mark.parametrize("state", STATE_RULES)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_goes_on_by_every_rule(kind: Any, state: Any) -> None:
    model = network()
    optimizer = stepped(kind(model.parameters(), lr=0.01), model)
    options: dict[str, Any] = {"optimizer": optimizer, "state": state, "inplace": True}
    served = STATE_RULES[state].missing(optimizer) == ""
    assert served or kind is torch.optim.Adafactor or (kind is torch.optim.ASGD)
    if not served:
        with pytest.raises(GrowthError, match=f"state='{state}'"):
            fxgrow.widen(model, {"0": 2}, INPUTS, how="new", **options)
        return
    fxgrow.widen(model, {"0": 2}, INPUTS, how="new", new_entry_rate=NewEntryRate(), **options)
    before = model[2].weight.detach().clone()
    stepped(optimizer, model)
    stepped(optimizer, model)
    assert not torch.equal(before[:, 6:], model[2].weight[:, 6:])
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_adafactor_keeps_means_of_its_matrices() -> None:
    model = network()
    optimizer = stepped(torch.optim.Adafactor(model.parameters()), model)
    before = dict(optimizer.state[model[0].weight])
    fxgrow.widen(model, {"0": 1}, INPUTS)  # a copy; the optimizer is not touched
    growth = grown(model, optimizer, inplace=True)
    weight = growth.module[0].weight
    state = optimizer.state[weight]
    assert state["row_var"].shape == (len(weight), 1)
    assert torch.equal(state["col_var"], before["col_var"])


def test_new_entries_start_as_the_optimizer_starts_them() -> None:
    model = network()
    rprop = stepped(torch.optim.Rprop(model.parameters(), lr=0.3), model)
    grown(model, rprop, inplace=True)
    smallest = min(float(rprop.state[p]["step_size"].min()) for p in model.parameters())
    assert smallest > 0.1


def test_lbfgs_is_refused_once_it_has_a_history() -> None:
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters())
    growth = grown(model, optimizer)
    stepped(growth.optimizer, growth.module)
    with pytest.raises(GrowthError, match="make a new one") as error:
        grown(growth.module, growth.optimizer)
    assert error.value.code == "optimizer-state"


class Blocks(torch.optim.SGD):
    """Keeps a matrix of its own shape per parameter."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["preconditioner"] = torch.eye(parameter.shape[0])
        return super().step(closure)


def test_state_of_an_unknown_shape_is_refused() -> None:
    model = network()
    optimizer = stepped(Blocks(model.parameters(), lr=0.1), model)
    shapes = [parameter.shape for parameter in model.parameters()]
    with pytest.raises(GrowthError, match=r"'preconditioner' of '0\.weight'") as error:
        grown(model, optimizer, inplace=True)
    assert error.value.code == "optimizer-state"
    assert [parameter.shape for parameter in model.parameters()] == shapes


@pytest.mark.parametrize("inplace", [False, True])
def test_an_optimizer_of_another_model_is_refused(inplace: bool) -> None:
    with pytest.raises(GrowthError, match="holds no parameter of Sequential") as error:
        grown(network(), torch.optim.SGD(network().parameters(), lr=0.1), inplace=inplace)
    assert error.value.code == "foreign-optimizer"


@pytest.mark.parametrize("inplace", [False, True])
def test_a_head_outside_of_the_model_goes_on_learning(inplace: bool) -> None:
    model, head = network(4), nn.Linear(4, 3)
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=0.01)
    stepped(optimizer, lambda x: head(model(x)))
    moment = optimizer.state[head.weight]["exp_avg"].clone()
    growth = fxgrow.grow(
        model,
        [(INPUTS, LABELS)],
        lambda out, y: F.cross_entropy(head(out), y),
        optimizer=optimizer,
        method=QUICK,
        inplace=inplace,
    )
    assert growth.optimizer is not None
    assert torch.equal(growth.optimizer.state[head.weight]["exp_avg"], moment)
    before = head.weight.clone()
    stepped(growth.optimizer, lambda x: head(growth.module(x)))
    assert not torch.equal(before, head.weight)


class Counting(torch.optim.SGD):
    """Has an attribute of its own, which torch leaves out of copies."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, lr=0.1)
        self.steps = [0]

    def step(self, closure: Any = None) -> Any:
        self.steps[0] += 1
        return super().step(closure)


def test_a_copy_keeps_attributes_and_hooks() -> None:
    model = network()
    optimizer = Counting(model.parameters())
    seen: list[Any] = []
    optimizer.register_step_post_hook(lambda which, *_: seen.append(which))
    stepped(optimizer, model)
    copied, (copied_optimizer,) = copy_with_optimizers(model, [optimizer])
    stepped(copied_optimizer, copied)
    assert optimizer.steps == [1] and copied_optimizer.steps == [2]  # type: ignore[attr-defined]
    assert seen[0] is optimizer and seen[-1] is copied_optimizer


def matrices(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.dim() == 2]


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("state", STATE_RULES)
def test_muon_s_momentum_is_padded_as_that_of_sgd(state: Any, inplace: bool) -> None:
    """Its matrix is orthogonalised in every step, so nothing of it may be scaled or stepped apart."""
    model = network()
    optimizer = stepped(torch.optim.Muon(matrices(model), lr=0.01), model)
    before = {id(p): optimizer.state[p]["momentum_buffer"].clone() for p in matrices(model)}
    first, second = (before[id(p)] for p in matrices(model))
    options: dict[str, Any] = {"optimizer": optimizer, "state": state, "inplace": inplace}
    if state in ("own-age", "scaled"):
        with pytest.raises(GrowthError, match=f"the Muon is not known to .* state='{state}'"):
            fxgrow.widen(model, {"0": 2}, INPUTS, how="new", **options)
        return
    wider = fxgrow.widen(model, {"0": 2}, INPUTS, how="new", **options)
    reading, read = matrices(wider.module)
    if state == "padded":
        kept = [wider.optimizer.state[p]["momentum_buffer"] for p in (reading, read)]
        assert torch.equal(kept[0], F.pad(first, (0, 0, 0, 2)))
        assert torch.equal(kept[1], F.pad(second, (0, 2)))
    else:
        assert reading not in wider.optimizer.state and read not in wider.optimizer.state
    entered = reading.detach().clone()
    for _ in range(2):  # new neurons are read from the first step on, so the second moves all
        stepped(wider.optimizer, wider.module)
    assert bool((reading != entered).all()) and bool(reading.isfinite().all())
    # A copy leaves what it was made of alone.
    if not inplace:
        assert torch.equal(optimizer.state[matrices(model)[0]]["momentum_buffer"], first)


class Embedded(nn.Module):
    """Words whose gradients are sparse."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 6, sparse=True)
        self.hidden = nn.Linear(6, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, words: Tensor) -> Tensor:
        scores: Tensor = self.head(torch.relu(self.hidden(self.words(words))).mean(1))
        return scores


WORDS = torch.tensor([[0, 1, 2], [4, 4, 5], [0, 5, 5], [1, 2, 4]])  # 3 and 6 are never looked up
SPARSE: dict[str, Callable[[Any], Any]] = {
    "SparseAdam": lambda p: torch.optim.SparseAdam(p, lr=0.01),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "SGD with momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
}


def read_words(model: Embedded, optimizer: Any) -> None:
    model.zero_grad()
    F.cross_entropy(model(WORDS), LABELS[:4]).backward()
    optimizer.step()


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # of torch's own Adagrad
@pytest.mark.parametrize("keep_gradient", [True, False])
@pytest.mark.parametrize("name", SPARSE)
def test_sparse_gradients_grow_along(name: str, keep_gradient: bool) -> None:
    """Copies of neurons: as if the embedding had been that wide from the start."""
    torch.manual_seed(0)
    model = Embedded()
    optimizer = SPARSE[name]([model.words.weight])
    for _ in range(2):
        read_words(model, optimizer)
    if not keep_gradient:
        model.zero_grad()
    before = model(WORDS)
    fxgrow.widen(model, {"words": 2}, (WORDS,), how="split", optimizer=optimizer, inplace=True)
    weight = model.words.weight
    torch.testing.assert_close(model(WORDS), before)
    assert weight.shape == (7, 8)
    for key, value in optimizer.state[weight].items():
        assert not isinstance(value, Tensor) or value.dim() == 0 or value.shape == (7, 8), key
    grown = weight.detach().clone()
    for _ in range(2):
        read_words(model, optimizer)
    moved = (weight != grown).any(1)
    assert moved.tolist() == [True, True, True, False, True, True, False]


@pytest.mark.parametrize("method", [fxgrow.ZeroOutgoing(), QUICK], ids=["new", "search"])
def test_a_search_over_an_embedding_with_sparse_gradients(method: Any) -> None:
    torch.manual_seed(0)
    model = Embedded()
    optimizer = SPARSE["SparseAdam"]([model.words.weight])
    read_words(model, optimizer)
    batches = [(WORDS, LABELS[:4])]
    growth = fxgrow.grow(
        model, batches, F.cross_entropy, optimizer=optimizer, method=method, inplace=True,
        budget=fxgrow.Budget(neurons=3), only=["words"],
        accept_no_gain=True,
    )  # fmt: skip
    assert growth.module.words.embedding_dim > 6 and growth.module.words.sparse
    read_words(model, optimizer)


def test_sparse_adam_follows_no_rule_of_single_entries() -> None:
    model = Embedded()
    optimizer = SPARSE["SparseAdam"]([model.words.weight])
    read_words(model, optimizer)
    for state in ("own-age", "scaled"):
        with pytest.raises(GrowthError, match="the SparseAdam is not known to") as caught:
            fxgrow.widen(model, {"words": 2}, (WORDS,), how="new", optimizer=optimizer, state=state)
        assert caught.value.code == "state-rule"
