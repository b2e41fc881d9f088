"""What no example reaches: refused, or followed where its role is certain; and several examples united."""

import pytest
import torch
from torch import Tensor, nn

from fxgrow import Budget, capture, couple, grow, widen
from fxgrow.errors import GrowthError, ModelError
from tests.coupling.models import Net

X = torch.randn(2, 5, generator=torch.Generator().manual_seed(0)).double()
MANY = torch.randn(200, 5, generator=torch.Generator().manual_seed(1)).double()


class Experts(nn.Module):
    """Tokens go to one expert each, and an expert without tokens is skipped."""

    def __init__(self, count: int = 4) -> None:
        super().__init__()
        self.i, self.gate, self.o = nn.Linear(5, 6), nn.Linear(6, count), nn.Linear(6, 3)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 7), nn.GELU(), nn.Linear(7, 6)) for _ in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.i(x))
        weight, chosen = self.gate(x).softmax(-1).max(-1)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows = (chosen == number).nonzero()[:, 0]
            if len(rows):
                out[rows] = expert(x[rows]) * weight[rows, None]
        return self.o(x + out)


class Tasks(nn.Module):
    """A head for each task, chosen by an argument."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(5, 6)
        self.heads = nn.ModuleList(nn.Linear(6, 3) for _ in range(2))

    def forward(self, x: Tensor, task: int = 0) -> Tensor:
        return self.heads[task](torch.relu(self.a(x)))


class Chain(nn.Module):
    """Layers one after the other, of which only the first ``depth`` run."""

    def __init__(self, hidden: int = 6) -> None:
        super().__init__()
        self.i, self.o = nn.Linear(5, hidden), nn.Linear(hidden, 3)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(4))

    def forward(self, x: Tensor, depth: int = 2) -> Tensor:
        x = self.i(x)
        for layer in self.layers[:depth]:
            x = torch.tanh(layer(x))
        return self.o(x)


def build(make: type[nn.Module], seed: int = 0) -> nn.Module:
    """A model in float64 with random weights."""
    torch.manual_seed(seed)
    return make().double().eval()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("how", ["split", "new"])
def test_experts_without_tokens_follow_or_the_width_is_refused(seed: int, how: str) -> None:
    model = build(Experts, seed)
    coupling = couple(model, X)
    amounts = {width.name: 2 for width in coupling.widths if width.growable}
    if amounts:
        wider = widen(model, amounts, X, how=how).module  # type: ignore[arg-type]
        torch.testing.assert_close(wider(MANY), model(MANY), rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        tokens = model.gate(torch.tanh(model.i(X))).argmax(-1)  # type: ignore[operator]
    reached = set(tokens.tolist())
    missing = {f"experts.{number}" for number in range(4) if number not in reached}
    assert {entry.module.rpartition(".")[0] for entry in coupling.unreached} == missing
    assert coupling.by_name["i"].growable == (len(reached) > 1)


def test_experts_that_follow_are_named_with_their_sibling() -> None:
    model = build(Experts)
    with torch.no_grad():
        model.gate.weight.zero_()  # type: ignore[union-attr,operator]
        model.gate.weight[0] = 9.0  # type: ignore[index]
        model.gate.weight[1] = -9.0  # type: ignore[index]
    coupling = couple(model, MANY)
    follows = {entry.module: entry.follows for entry in coupling.unreached}
    assert follows == {
        f"experts.{number}.{layer}": f"experts.0.{layer}" for number in (2, 3) for layer in (0, 2)
    }
    assert coupling.by_name["i"].growable
    assert coupling.by_name["experts.0.0"].growable
    refusal = coupling.by_name["experts.2.0"].refusal
    assert refusal is not None
    assert refusal.code == "unreached"


def test_every_parameter_of_the_experts_is_in_a_width() -> None:
    coupling = couple(build(Experts), MANY)
    known = {site.parameter for width in coupling.widths for site in width.sites}
    assert {name for name, _ in build(Experts).named_parameters()} == known


def test_the_head_of_another_task_refuses_what_it_may_read() -> None:
    coupling = couple(build(Tasks), (X, 0))
    refusal = coupling.by_name["a"].refusal
    assert refusal is not None
    assert refusal.code == "unreached"
    assert "heads.1.weight" in refusal.reason
    (entry,) = coupling.unreached
    assert entry.module == "heads.1"
    assert "a" in entry.widths
    assert entry.follows == ""


def test_an_example_for_each_task_lets_it_grow() -> None:
    model = build(Tasks)
    coupling = couple(model, examples=[(X, 0), (X, 1)])
    assert coupling.by_name["a"].growable
    assert coupling.unreached == ()
    sites = {site.parameter for site in coupling.by_name["a"].sites}
    assert sites == {"a.weight", "a.bias", "heads.0.weight", "heads.1.weight"}
    wider = widen(model, {"a": 3}, examples=[(X, 0), (X, 1)]).module
    for task in (0, 1):
        torch.testing.assert_close(wider(MANY, task), model(MANY, task), rtol=1e-12, atol=1e-12)


def test_examples_add_to_those_of_a_captured_model() -> None:
    captured = capture(build(Tasks), (X, 0))
    assert not couple(captured).by_name["a"].growable
    coupling = couple(captured, examples=[(X, 1)])
    assert coupling.by_name["a"].growable
    assert coupling.reads


def test_a_width_grows_only_if_it_can_in_all_examples() -> None:
    def forward(net: Net, x: Tensor, normalized: bool) -> Tensor:
        h = torch.tanh(net.a(x))
        return net.b(h.softmax(-1) if normalized else h)

    model = Net(forward, a=nn.Linear(5, 4), b=nn.Linear(4, 3)).double()
    assert couple(model, (X, False)).by_name["a"].growable
    refusal = couple(model, (X, False), examples=[(X, True)]).by_name["a"].refusal
    assert refusal is not None
    assert refusal.code == "normalised"


def test_an_example_that_does_not_run_is_named() -> None:
    with pytest.raises(ModelError) as caught:
        couple(build(Tasks), examples=[(X, 0), (X, 7)])
    assert caught.value.code == "does-not-run"
    assert "example 1" in str(caught.value)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_layers_of_a_chain_are_not_taken_for_siblings_that_agree(depth: int) -> None:
    model = build(Chain)
    coupling = couple(model, (X, depth))
    for width in coupling.widths:
        if width.growable:
            wider = widen(model, {width.name: 2}, (X, depth)).module
            for other in range(1, 5):
                expected = model(MANY, other)
                torch.testing.assert_close(wider(MANY, other), expected, rtol=1e-10, atol=1e-10)


def test_a_method_other_than_forward_is_off_the_path() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.other = nn.Linear(5, 6), nn.Linear(6, 3), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.tanh(self.a(x)))

        def embed(self, x: Tensor) -> Tensor:
            return self.other(torch.tanh(self.a(x)))

    refusal = couple(Model(), X.float()).by_name["a"].refusal
    assert refusal is not None
    assert refusal.code == "unreached"


def test_a_branch_on_the_batch_is_off_the_path() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        h = torch.tanh(net.a(x))
        return net.b(h) if x.shape[0] < 10 else net.c(h)

    model = Net(forward, a=nn.Linear(5, 6), b=nn.Linear(6, 3), c=nn.Linear(6, 3)).double()
    assert not couple(model, X).by_name["a"].growable
    assert couple(model, X, examples=[MANY]).by_name["a"].growable


def test_hidden_neurons_of_another_module_are_not_refused() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(6, 8), nn.Linear(8, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.down(torch.tanh(self.up(x)))

    def forward(net: Net, x: Tensor) -> Tensor:
        return net.o(net.used(net.i(x)))

    layers = {"i": nn.Linear(5, 6), "used": Block(), "unused": Block(), "o": nn.Linear(6, 3)}
    widths = couple(Net(forward, **layers), X.float()).by_name
    assert widths["used.up"].growable  # never leaves its block
    for name in ("i", "used.down"):
        refusal = widths[name].refusal
        assert refusal is not None
        assert refusal.code == "unreached"


def test_unused_parameters_of_other_sizes_refuse_nothing() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        return net.b(torch.tanh(net.a(x)))

    model = Net(forward, a=nn.Linear(5, 6), b=nn.Linear(6, 3), unused=nn.Linear(11, 13))
    coupling = couple(model, X.float())
    assert coupling.by_name["a"].growable
    assert [(entry.module, entry.widths) for entry in coupling.unreached] == [("unused", ())]


def test_what_train_mode_reaches_is_followed() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        h = torch.tanh(net.a(x))
        return net.b(h) + (net.aux(h) if net.training else 0)

    model = Net(forward, a=nn.Linear(5, 6), b=nn.Linear(6, 3), aux=nn.Linear(6, 3)).double()
    coupling = couple(model, X)
    assert coupling.unreached == ()
    assert coupling.by_name["a"].growable


def test_grow_takes_several_examples() -> None:
    def forward(net: Net, x: Tensor) -> Tensor:
        h = torch.tanh(net.a(x))
        return net.b(h) if x.shape[0] < 10 else net.c(h)

    torch.manual_seed(0)
    layers = {"a": nn.Linear(5, 6), "b": nn.Linear(6, 3), "c": nn.Linear(6, 3)}
    model = Net(forward, **layers).double()
    batches, loss = [(X, torch.zeros(2, 3).double())], nn.functional.mse_loss
    with pytest.raises(GrowthError) as caught:
        grow(model, batches, loss, budget=Budget(neurons=2))
    assert caught.value.code == "nothing-growable"
    grown = grow(model, batches, loss, budget=Budget(neurons=2), examples=[MANY]).module
    assert grown.get_submodule("c").weight.shape == (3, 8)
    assert grown(MANY).shape == (200, 3)


class Centered(nn.Module):
    """Subtracts the mean of a buffer, if asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 3)
        self.register_buffer("mean", torch.randn(6), persistent=False)
        self.register_buffer("number", torch.arange(6))

    def forward(self, x: Tensor, centered: bool = False) -> Tensor:
        h = torch.tanh(self.a(x))
        return self.b(h - self.mean if centered else h)


def test_a_buffer_that_no_example_reaches() -> None:
    model = Centered().double()
    width = couple(model, (X,)).by_name["a"]
    assert width.refusal is not None and width.refusal.code == "unreached"
    assert "mean" in width.refusal.reason
    assert couple(model, (X, True)).by_name["a"].growable
    wider = widen(model, {"a": 2}, (X,), examples=[(X, True)]).module
    assert wider.mean.shape == (8,)
    torch.testing.assert_close(wider(MANY, True), model(MANY, True), rtol=1e-12, atol=1e-12)
