"""Rules that a user registers for operators of their own, beside the built-in table.

An operator may be any that torch's dispatcher knows: custom operators of ``torch.library``, Triton
kernels wrapped by ``torch.library.triton_op``, operators of a C++ extension. A custom
``torch.autograd.Function`` is no operator: what it calls are operators, and these have rules.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Annotated, Any

import torch
from torch._library.custom_ops import CustomOpDef
from torch._ops import OpOverload, OpOverloadPacket

from fxgrow.argument_checks import checked
from fxgrow.argument_types import UNCHECKED
from fxgrow.coupling.rules import table
from fxgrow.coupling.rules.table import Rule
from fxgrow.errors import ModelError

Operator = OpOverload | OpOverloadPacket | CustomOpDef | str
"""One overload of an operator, all of its overloads, or a name like ``"mylib::my_op"``."""


@dataclass(frozen=True, eq=False)
class _Entry:
    """One registration; two of them are equal only if they are the same object."""

    rule: Rule


@dataclass(frozen=True)
class RuleRegistry:
    """The registered rules: per operator a list of entries, of which the latest one counts.

    Keys are ``"library::operator"`` for all overloads, ``"library::operator.overload"`` for one.
    """

    entries: dict[str, list[_Entry]] = field(default_factory=dict)

    def registered(self, operator: OpOverload) -> Rule | None:
        """The registered rule of an operator: that of the overload counts before that of all."""
        if not self.entries:  # nearly always: keeps the cost per operator of a run at one test
            return None
        # The more specific registration counts first.
        for key in (_overload_key(operator), operator._schema.name):
            if self.entries.get(key):
                return self.entries[key][-1].rule
        return None

    def add(self, key: str, rule: Rule) -> _Entry:
        """Register a rule in front of the earlier ones for the same key."""
        entry = _Entry(rule)
        self.entries.setdefault(key, []).append(entry)
        return entry

    def remove(self, key: str, entry: _Entry) -> None:
        """Take one entry back; no error if that was done before."""
        left = [other for other in self.entries.get(key, []) if other is not entry]
        if left:
            self.entries[key] = left
        else:
            self.entries.pop(key, None)


REGISTRY = RuleRegistry()
"""The one registry of the process, as torch has one table of operators.

``register_rule`` and the handles that it returns write it, ``rule_for`` reads it.
"""


@dataclass(frozen=True)
class RuleHandle:
    """Undoes one registration: by ``remove()``, or at the end of a ``with`` block.

    Args:
        key: the operator's qualified name, with that of the overload if the rule is for one only.
        entry: the entry of the registry.

    Example:
        >>> import torch
        >>> from fxgrow.coupling.rules import pointwise, register_rule
        >>> with register_rule(torch.ops.aten.rot90, pointwise):
        ...     pass  # couple and grow a model here
    """

    key: str
    entry: _Entry

    def remove(self) -> None:
        """Take the rule back; the rule that it replaced, if any, counts again."""
        REGISTRY.remove(self.key, self.entry)

    def __enter__(self) -> "RuleHandle":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()


def rule_for(operator: OpOverload) -> Rule | None:
    """The rule of an operator, a registered one first; None if the operator must be refused."""
    return REGISTRY.registered(operator) or table.rule_for(operator)


@checked
def register_rule(
    op: Annotated[Operator, UNCHECKED], rule: Annotated[Rule, UNCHECKED], *, replace: bool = False
) -> RuleHandle:
    """Teach coupling what an operator of your own does to neurons, so that models with it can grow.

    Most operators behave like a built-in one: pass its rule, from ``fxgrow.coupling.rules``
    (``pointwise``, ``mm``, ``softmax``, ``batch_norm`` ...). A rule of your own is a function
    ``rule(context, args, out)`` that is called each time the operator runs on the meta device:
    it reads the label fields of the arguments (``context.fields(tensor)``), unites the labels of
    one neuron (``context.unite``), refuses those that can't grow (``context.pin``), and writes
    down the fields of the result (``context.set_fields``). A result that is not written down
    holds no neurons. Keyword-only arguments are not passed to rules.

    The operator needs a kernel for the meta device (``register_fake``). The rule holds until the
    handle that is returned is removed.

    Args:
        op: one overload, all overloads (``torch.ops.mylib.my_op``), what
            ``torch.library.custom_op`` returns, or the name ``"mylib::my_op"`` (all overloads).
        rule: a ready-made rule or your own.
        replace: whether the rule may take the place of a built-in or registered one.

    Returns:
        A handle; ``handle.remove()`` or leaving ``with register_rule(...):`` undoes it.

    Raises:
        ModelError: ``bad-rule``, if ``op`` is no such operator, or ``rule`` can't be called with
            three arguments; ``known-rule``, if there is a rule and ``replace`` is False.

    Example:
        >>> from fxgrow.coupling import couple, register_rule
        >>> from fxgrow.coupling.rules import pointwise
        >>> @torch.library.custom_op("docs::cube", mutates_args=())
        ... def cube(x: torch.Tensor) -> torch.Tensor:
        ...     return x**3
        >>> @cube.register_fake
        ... def _(x):
        ...     return torch.empty_like(x)
        >>> class Cube(nn.Module):
        ...     def forward(self, x):
        ...         return cube(x)
        >>> model = nn.Sequential(nn.Linear(6, 4), Cube(), nn.Linear(4, 2))
        >>> couple(model, torch.zeros(1, 6)).widths[0].refusal.code
        'unknown-operator'
        >>> with register_rule("docs::cube", pointwise):
        ...     couple(model, torch.zeros(1, 6)).widths[0].growable
        True
    """
    key, overloads = _overloads(op)
    for overload in _visible(op, overloads):
        if rule_for(overload) is not None and not replace:
            raise ModelError(
                "known-rule",
                f"the operator {overload} has a rule already, which would no longer be used; "
                "pass replace=True if that is meant",
            )
    _require_rule(rule)
    return RuleHandle(key, REGISTRY.add(key, rule))


def _overloads(op: Any) -> tuple[str, list[OpOverload]]:
    """The key of an operator in the registry, and the overloads that it stands for."""
    if isinstance(op, CustomOpDef):
        return _overloads(op._opoverload)
    if isinstance(op, OpOverload):
        return _overload_key(op), [op]
    if isinstance(op, str):
        op = _packet(op)
    if not isinstance(op, OpOverloadPacket):
        raise ModelError(
            "bad-rule",
            f"{op!r} is no operator of torch's dispatcher, so no rule can be called for it; pass "
            "torch.ops.mylib.my_op, one of its overloads, or the name 'mylib::my_op'",
        )
    overloads = []
    for name in op.overloads():
        overload = getattr(op, name)
        # Results that are written into an argument are keyword-only, which rules do not see.
        if not any(argument.is_out for argument in overload._schema.arguments):
            overloads.append(overload)
    return op._qualified_op_name, overloads


def _packet(name: str) -> OpOverloadPacket:
    library, _, operator = name.partition("::")
    # An empty name or one with a dot would ask torch.ops for something that is no operator.
    found = None
    if library.isidentifier() and operator.isidentifier():
        found = getattr(getattr(torch.ops, library), operator, None)
    if not isinstance(found, OpOverloadPacket):
        raise ModelError(
            "bad-rule",
            f"torch has no operator {name!r}, so its rule would never be used; names are written "
            "'library::operator', and the library must be imported before",
        )
    return found


def _overload_key(operator: OpOverload) -> str:
    return f"{operator._schema.name}.{operator._schema.overload_name or 'default'}"


def _visible(op: Operator, overloads: Sequence[OpOverload]) -> list[OpOverload]:
    """The overloads that coupling gets to see: torch takes some apart before (``aten::linear``)."""
    decomposed = torch._C.DispatchKey.CompositeImplicitAutograd
    visible = []
    for overload in overloads:
        if not overload.has_kernel_for_dispatch_key(decomposed):
            visible.append(overload)
    if not visible:
        raise ModelError(
            "bad-rule",
            f"torch replaces the operator {op} by simpler ones before a rule could see it; "
            "register rules for those",
        )
    return visible


def _require_rule(rule: Any) -> None:
    name = getattr(rule, "__name__", repr(rule))
    message = f"{name} can't be called as rule(context, args, out), so it is no rule"
    if not callable(rule):
        raise ModelError("bad-rule", message)
    try:
        # Whether a call with three positional arguments would fit, without calling it.
        inspect.signature(rule).bind(None, (), None)
    except ValueError:  # a callable written in C, whose signature nobody knows
        return
    except TypeError as error:
        raise ModelError("bad-rule", f"{message}: {error}") from None
