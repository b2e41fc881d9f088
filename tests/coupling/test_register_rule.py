"""A user's own operator: unknown at first, then known by the rule that the user registers."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.coupling import Coupling, couple, register_rule
from fxgrow.coupling.rules import Context, Rule, mm, no_effect, pointwise, roll, softmax
from fxgrow.errors import ModelError
from tests.coupling.models import IMAGE, VECTOR, Net, convolutions, linears


@torch.library.custom_op("mylib::soft_gate", mutates_args=())
def soft_gate(x: Tensor, slope: float = 1.0) -> Tensor:
    return x * torch.sigmoid(slope * x)


@soft_gate.register_fake
def _(x: Tensor, slope: float = 1.0) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("mylib::project", mutates_args=())
def project(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight


@project.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty((x.shape[0], weight.shape[1]))


@torch.library.custom_op("mylib::add", mutates_args=())
def shifted(x: Tensor, weight: Tensor) -> Tensor:
    """Not linear, although an operator of torch with that name is."""
    return torch.exp(x + weight)


@shifted.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("mylib::turn", mutates_args=(), tags=(torch.Tag.pointwise,))
def turn(x: Tensor) -> Tensor:
    """Wrongly tagged: it moves every channel by one."""
    return x.roll(1, 1)


@turn.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Projected(nn.Module):
    """Two products by the user's own operator."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(6, 4))
        self.second = nn.Parameter(torch.randn(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        hidden = project(x, self.first).relu()
        return project(hidden, self.second)


@pytest.fixture
def gate_rule() -> Iterator[None]:
    with register_rule("mylib::soft_gate", pointwise):
        yield


def code(coupling: Coupling, width: str = "a") -> str:
    refusal = coupling.by_name[width].refusal
    return refusal.code if refusal else ""


def gated() -> nn.Module:
    return linears(soft_gate)


def require_same_function(
    model: nn.Module, amounts: dict[str, int], how: Any, example: Tensor = VECTOR
) -> None:
    model, example = model.double(), example.double()
    wider = fxgrow.widen(model, amounts, (example,), how=how).module
    added = sum(p.numel() for p in wider.parameters()) - sum(p.numel() for p in model.parameters())
    assert added > 0
    torch.testing.assert_close(wider(example), model(example), rtol=1e-12, atol=1e-12)


def test_an_operator_without_a_rule_is_refused_by_name() -> None:
    refusal = couple(gated(), (VECTOR,)).by_name["a"].refusal
    assert refusal is not None
    assert refusal.code == "unknown-operator"
    assert "mylib.soft_gate.default" in refusal.reason
    assert "register_rule" in refusal.reason


@pytest.mark.parametrize("how", ["split", "new"])
@pytest.mark.usefixtures("gate_rule")
def test_an_elementwise_operator_grows(how: Any) -> None:
    assert couple(gated(), (VECTOR,)).by_name["a"].growable
    require_same_function(gated(), {"a": 3}, how)


@pytest.mark.parametrize("how", ["split", "new"])
def test_a_product_grows(how: Any) -> None:
    with register_rule(torch.ops.mylib.project, mm):
        sites = couple(Projected(), (VECTOR,)).by_name["first"].sites
        assert {(site.parameter, site.axis, site.role.value) for site in sites} == {
            ("first", 1, "writes"),
            ("second", 0, "reads"),
        }
        require_same_function(Projected(), {"first": 3}, how)


def test_a_rule_of_ones_own() -> None:
    """Written as the documentation of ``register_rule`` says: fields are read, refused, and set."""
    calls = []

    def gate(context: Context, args: Sequence[Any], out: Tensor) -> None:
        calls.append(args[1:])
        fields = context.fields(args[0]).values()
        context.pin_fields(fields, "fixed-size", "my kernel is compiled for this size")
        context.set_fields(out, fields)

    with register_rule(soft_gate, gate):
        refusal = couple(linears(lambda h: soft_gate(h, 2.0)), (VECTOR,)).by_name["a"].refusal
    assert refusal is not None
    assert refusal.reason == "my kernel is compiled for this size"
    assert calls[0] == (2.0,)


def test_a_name_of_torch_in_another_library_is_another_operator() -> None:
    """``aten::add`` is linear in its operands, so that copies can share a sum of weights."""
    model = Net(
        lambda net, x: nn.functional.linear(net.a(x), shifted(net.b.weight, net.c.weight)),
        a=nn.Linear(6, 4),
        b=nn.Linear(4, 2, bias=False),
        c=nn.Linear(4, 2, bias=False),
    )
    with register_rule(shifted, pointwise):
        assert code(couple(model, (VECTOR,))) == "nonlinear"


@pytest.mark.parametrize(
    "op", ["mylib::soft_gate", torch.ops.mylib.soft_gate, soft_gate._opoverload, soft_gate]
)
def test_an_operator_can_be_named_in_four_ways(op: Any) -> None:
    with register_rule(op, pointwise):
        assert code(couple(gated(), (VECTOR,))) == ""
    assert code(couple(gated(), (VECTOR,))) == "unknown-operator"


def test_a_removed_rule_gives_way_to_the_one_before() -> None:
    first = register_rule(soft_gate, pointwise)
    second = register_rule(soft_gate, softmax_along_last, replace=True)
    third = register_rule("mylib::soft_gate", pointwise, replace=True)
    assert code(couple(gated(), (VECTOR,))) == "normalised"  # that of the overload comes first
    second.remove()
    second.remove()  # once more does no harm
    first.remove()
    assert code(couple(gated(), (VECTOR,))) == ""
    third.remove()
    assert code(couple(gated(), (VECTOR,))) == "unknown-operator"


def softmax_along_last(context: Context, args: Sequence[Any], out: Any) -> None:
    softmax(context, (args[0], -1), out)


def test_an_error_inside_the_block_removes_the_rule() -> None:
    with pytest.raises(RuntimeError, match="stop"), register_rule(soft_gate, pointwise):
        raise RuntimeError("stop")
    register_rule(soft_gate, pointwise).remove()


@pytest.mark.usefixtures("gate_rule")
@pytest.mark.parametrize(
    "op",
    [
        "mylib::soft_gate",
        soft_gate,
        "aten::mm",
        torch.ops.aten.relu,  # by its tag, without a row
        torch.ops.aten.relu.default,
        torch.ops.aten.add.Tensor,
        torch.ops.aten.add.out,
        "torchvision::nms",
    ],
)
def test_a_known_rule_is_replaced_only_if_asked(op: Any) -> None:
    pytest.importorskip("torchvision")
    with pytest.raises(ModelError, match="replace=True") as caught:
        register_rule(op, no_effect)
    assert caught.value.code == "known-rule"
    register_rule(op, no_effect, replace=True).remove()


def test_a_replaced_rule_is_used() -> None:
    def refusing(context: Context, args: Sequence[Any], out: Tensor) -> None:
        context.pin_fields(context.fields(args[0]).values(), "fixed-size", "not today")

    model = linears(torch.relu)
    with register_rule(torch.ops.aten.relu, refusing, replace=True):
        assert code(couple(model, (VECTOR,))) == "fixed-size"
    assert code(couple(model, (VECTOR,))) == ""


def test_a_replaced_rule_may_move_neurons() -> None:
    """Copies are followed through the model then, which elementwise operators do not need."""

    def rolling(context: Context, args: Sequence[Any], out: Tensor) -> None:
        roll(context, (args[0], [1], [1]), out)

    with register_rule(turn, rolling, replace=True):
        require_same_function(convolutions(turn), {"a": 4}, "split", IMAGE)


@pytest.mark.parametrize(
    "op",
    [
        "soft_gate",
        "mylib::",
        "::soft_gate",
        "mylib::sof_gate",
        "mylib.soft_gate",
        "nolib::soft_gate",
        "mylib::soft_gate.default",
        "higher_order::cond",
        "aten::__class__",
        "",
        None,
        torch.relu,
        torch.cond,
        torch.ops.mylib,
        nn.ReLU(),
        "aten::linear",
        torch.ops.aten.reshape.default,
    ],
)
def test_what_is_no_operator_is_refused(op: Any) -> None:
    with pytest.raises(ModelError) as caught:
        register_rule(op, pointwise)
    assert caught.value.code == "bad-rule"


@pytest.mark.parametrize(
    "rule",
    ["pointwise", None, lambda: None, lambda args, out: None, lambda a, b, c, d: None],
)
def test_what_is_no_rule_is_refused(rule: Any) -> None:
    with pytest.raises(ModelError, match="no rule") as caught:
        register_rule(soft_gate, rule)
    assert caught.value.code == "bad-rule"
    assert code(couple(gated(), (VECTOR,))) == "unknown-operator"


def test_rules_may_be_callables_of_any_kind() -> None:
    class Method:
        def __call__(self, context: Context, args: Sequence[Any], out: Any) -> None:
            pointwise(context, args, out)

    rules: list[Rule] = [Method(), Method().__call__, lambda *all_three: pointwise(*all_three)]
    for rule in rules:
        with register_rule(soft_gate, rule):
            assert code(couple(gated(), (VECTOR,))) == ""
