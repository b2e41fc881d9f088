"""Forward hooks: those that change values are part of the graph, those that keep something stay where they are."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Firefly, GrowthError
from fxgrow.capture import UNTRACED_HOOK, capture

INPUTS = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
QUICK = Firefly(new=2, steps=1, refine_steps=1)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())


def network() -> Any:
    layers = nn.Linear(5, 6), nn.ReLU(), Block(), nn.Linear(6, 3)
    return nn.Sequential(*layers).double()


def double_output(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return output * 2


def double_in_place(module: nn.Module, args: Any, output: Tensor) -> None:
    output.mul_(2)


def squash_input(module: nn.Module, args: Any) -> Any:
    return (args[0].tanh(),)


def squash_named(module: nn.Module, args: Any, kwargs: Any) -> Any:
    return (args[0].tanh(),), kwargs


CHANGES: dict[str, Callable[[Any], Any]] = {
    "output": lambda m: m[0].register_forward_hook(double_output),
    "output in place": lambda m: m[0].register_forward_hook(double_in_place),
    "input": lambda m: m[3].register_forward_pre_hook(squash_input),
    "input, by name": lambda m: m[3].register_forward_pre_hook(squash_named, with_kwargs=True),
    "activation": lambda m: m[1].register_forward_hook(double_output),
    "block": lambda m: m[2].register_forward_hook(double_output),
    "inside a block": lambda m: m[2].first.register_forward_hook(double_output),
    "model": lambda m: m.register_forward_hook(double_output),
    "model's input": lambda m: m.register_forward_pre_hook(squash_input),
}


@pytest.mark.parametrize("name", CHANGES)
def test_hooks_that_change_values_are_in_the_graph(name: str) -> None:
    model = network()
    CHANGES[name](model)
    captured = capture(model, INPUTS)
    assert captured.how == "traced" and captured.traced_share == 1
    torch.testing.assert_close(captured.graph_module(INPUTS), model(INPUTS))


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("name", CHANGES)
def test_models_with_hooks_that_change_values_grow(name: str, inplace: bool) -> None:
    model = network()
    CHANGES[name](model)
    number_before = hooks_of(model)
    growth = fxgrow.grow(model, [(INPUTS, LABELS)], F.cross_entropy, method=QUICK, inplace=inplace)
    assert growth.report.widths and hooks_of(growth.module) == number_before
    loss = float(F.cross_entropy(growth.module(INPUTS), LABELS).detach())
    assert loss == pytest.approx(growth.report.loss_after, abs=1e-12)


def hooks_of(model: nn.Module) -> int:
    modules = list(model.modules())
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)


def test_a_hook_that_changes_values_and_is_not_traceable_is_noted() -> None:
    model = network()
    model[0].register_forward_hook(lambda m, i, o: o * (2 if float(o.detach().mean()) < 9 else 3))
    captured = capture(model, INPUTS)
    noted = [
        node.target for node in captured.graph_module.graph.nodes if UNTRACED_HOOK in node.meta
    ]
    assert noted == ["0"]
    torch.testing.assert_close(captured.graph_module(INPUTS), model(INPUTS))


class Kept(nn.Module):
    """A feature that a hook keeps is used again."""

    def __init__(self, register: Callable[["Kept"], Any]) -> None:
        super().__init__()
        self.a, self.b, self.o = nn.Linear(5, 6), nn.Linear(6, 4), nn.Linear(10, 3)
        self.kept: Any = {}
        self.listed: list[Tensor] = []
        register(self)
        self.double()

    def keep(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.kept["x"] = output

    def keep_as(self, name: str, module: nn.Module, args: Any, output: Tensor) -> None:
        self.kept[name] = output

    def forward(self, x: Tensor) -> Tensor:
        self.listed.clear()
        y = self.b(self.a(x).relu())
        return self.o(torch.cat([y, self.listed[0] if self.listed else self.kept["x"]], 1))


def by_closure(kept: dict[str, Tensor]) -> Callable[..., None]:
    def keep(module: nn.Module, args: Any, output: Tensor) -> None:
        kept["x"] = output

    return keep


KEEPERS: dict[str, Callable[[Kept], Any]] = {
    "lambda of self": lambda m: m.a.register_forward_hook(lambda *a: m.kept.update(x=a[2])),
    "method": lambda m: m.a.register_forward_hook(m.keep),
    "partial": lambda m: m.a.register_forward_hook(partial(m.keep_as, "x")),
    "closure": lambda m: m.a.register_forward_hook(by_closure(m.kept)),
    "list": lambda m: m.a.register_forward_hook(lambda *a: m.listed.append(a[2])),
    "default": lambda m: m.a.register_forward_hook(lambda a, b, c, m=m: m.kept.update(x=c)),
}


@pytest.mark.parametrize("ran", [False, True])
@pytest.mark.parametrize("name", KEEPERS)
def test_features_that_hooks_keep(name: str, ran: bool) -> None:
    """Coupled, widened and grown, also after a run with gradients, whose results cannot be copied."""
    model = Kept(KEEPERS[name])
    if ran:
        model(INPUTS)
    kept_before, listed_before = dict(model.kept), list(model.listed)
    assert [width.growable for width in fxgrow.couple(model, INPUTS).widths] == [True, True, False]
    assert model.kept == kept_before and model.listed == listed_before
    wider = fxgrow.widen(model, {"a": 2, "b": 1}, INPUTS).module
    growth = fxgrow.grow(model, [(INPUTS, LABELS)], F.cross_entropy, method=QUICK)
    assert growth.report.widths and hooks_of(wider) == hooks_of(growth.module) == 1
    torch.testing.assert_close(wider(INPUTS), model(INPUTS))
    loss = float(F.cross_entropy(growth.module(INPUTS), LABELS).detach())
    assert loss == pytest.approx(growth.report.loss_after, abs=1e-12)


def test_a_feature_list_of_nobody_is_not_filled_by_growth() -> None:
    features: list[Tensor] = []
    model = network()
    model[0].register_forward_hook(lambda *a: features.append(a[2]))
    fxgrow.couple(model, INPUTS)
    fxgrow.capture(model, INPUTS)
    assert features == []
    fxgrow.grow(model, [(INPUTS, LABELS)], F.cross_entropy, method=QUICK, inplace=True)
    model(INPUTS)
    assert features[-1].shape == (8, model[0].out_features)


def test_a_hook_on_a_block_would_be_lost_with_new_layers() -> None:
    model = network()
    model[2].register_forward_hook(lambda *a: None)
    deeper = Firefly(new=0, layers=2, steps=1, refine_steps=1)
    with pytest.raises(GrowthError, match="'2' has a forward hook") as error:
        fxgrow.grow(model, [(INPUTS, LABELS)], F.cross_entropy, method=deeper)
    assert error.value.code == "hooked-module"
