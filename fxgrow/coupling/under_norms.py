"""A coupling in which widths grow although norms run over them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from torch import nn

from fxgrow.capture import Captured, preserve_attributes
from fxgrow.coupling.context import Context
from fxgrow.coupling.couple import subjects_of
from fxgrow.coupling.keys import AxisKey
from fxgrow.coupling.norm_rules import EpsUse, NormRule, norm_rule
from fxgrow.coupling.norm_uses import NoRuleError
from fxgrow.coupling.patterns import Patterns
from fxgrow.coupling.resolve import UnderNorms, resolve_coupling
from fxgrow.coupling.site_rules import ScaledNumber
from fxgrow.coupling.size_records import size_records
from fxgrow.coupling.trace import observe
from fxgrow.coupling.widths import Coupling, Width
from fxgrow.errors import GrowthError
from fxgrow.modes import exclusive_autograd, garbage_collection_off
from fxgrow.surgery import ROW_NORM_TYPES


class CouplingLimits(NamedTuple):
    """What may grow: ``ignore``, ``only`` and ``frozen`` of ``couple``."""

    ignore: Sequence[str] = ()
    only: Sequence[str] = ()
    frozen: Sequence[str] = ()


EVERYWHERE = CouplingLimits()
"""No limits."""


def free_for_new_neurons(
    model_or_captured: nn.Module | Captured,
    coupling: Coupling,
    names: Sequence[str],
    examples: Sequence[Any],
) -> Coupling:
    """Couple once more, so that some widths can get new neurons although norms run over them.

    Args:
        model_or_captured: what was coupled.
        coupling: what ``couple`` found.
        names: the widths, refused by a code of ``UNDER_NORMS`` there.
        examples: the example inputs.

    Returns:
        The widths, those of ``names`` growable, and their rules (``Coupling.under_norms``).

    Raises:
        GrowthError: the code of a width's refusal, if no rule makes up for its norms, or if it
            cannot grow for another reason as well.
    """
    found = _found_rules(model_or_captured, coupling, names, examples)
    for name, reason in found.reasons.items():
        raise _cannot_grow(coupling.by_name[name], reason.message, reason.code)
    freed = _freed(model_or_captured, examples, found.rules, EVERYWHERE)
    for rule in found.rules:
        _name_of(freed, rule.norms.sites[0].key)
    return freed


def free_if_possible(
    model_or_captured: nn.Module | Captured,
    coupling: Coupling,
    names: Sequence[str],
    examples: Sequence[Any],
    within: CouplingLimits = EVERYWHERE,
) -> Coupling:
    """Free widths as ``free_for_new_neurons`` does, and leave those refused that cannot be freed.

    Args:
        model_or_captured: what was coupled.
        coupling: what ``couple`` found.
        names: the widths, refused by a code of ``UNDER_NORMS`` there.
        examples: the example inputs.
        within: with which limits it was coupled.

    Returns:
        The widths; a refusal of one of ``names`` tells why no rule makes up for its norms.
    """
    if not names:
        return coupling
    found = _found_rules(model_or_captured, coupling, names, examples)
    freed = coupling
    if found.rules:
        freed = _freed(model_or_captured, examples, found.rules, within)
    widths = []
    for width in freed.widths:
        reason = found.reasons.get(width.name)
        if reason is not None and width.refusal is not None:
            told = f"{width.refusal.reason}; {reason.message}"
            code = reason.code or width.refusal.code
            width = replace(width, refusal=replace(width.refusal, code=code, reason=told))
        widths.append(width)
    return replace(freed, widths=tuple(widths))


class _Reason(NamedTuple):
    """Why there is no rule; ``code``: of the refusal, "" for the one that the width has."""

    message: str
    code: str


class _Rule(NamedTuple):
    """How a width grows under its norms, and the numbers of modules that follow it."""

    norms: NormRule
    numbers: tuple[ScaledNumber, ...]


class _FoundRules(NamedTuple):
    """The rules that there are, and by the names of the other widths why there is none."""

    rules: Sequence[_Rule]
    reasons: Mapping[str, _Reason]


def _found_rules(
    model_or_captured: nn.Module | Captured,
    coupling: Coupling,
    names: Sequence[str],
    examples: Sequence[Any],
) -> _FoundRules:
    # Three runs more than couple makes, and only for who asks for such a width.
    opened, model = _observed(model_or_captured, examples), _model_of(model_or_captured)
    rules, reasons = [], {}
    for name in names:
        width = coupling.by_name[name]
        try:
            rule = norm_rule(coupling, width, opened)
            numbers = tuple(_attribute_of(model, eps) for eps in rule.eps)
            rules.append(_Rule(rule, numbers))
        except NoRuleError as error:
            splits = f"fxgrow.widen with how='split', {_multiples(width)}"
            message = f"{error}; splitting every neuron alike ({splits}) may do"
            reasons[name] = _Reason(message, error.own_code)
    return _FoundRules(rules, reasons)


def _attribute_of(model: nn.Module, eps: EpsUse) -> ScaledNumber:
    """The attribute that holds the eps of a norm.

    Raises:
        NoRuleError: ``fixed-eps``, if there is none, or another norm may use it as well.
    """
    module, names = model.get_submodule(eps.module), []
    for name, value in vars(module).items():
        if type(value) is float and value == eps.value:
            names.append(name)
    if len(names) != 1 or eps.is_shared:
        number = "a number" if eps.value is None else f"{eps.value:g}"
        raise NoRuleError(
            f"a norm adds {number} to a mean over it, which has to follow its size and is no "
            f"attribute of {eps.module or type(model).__name__} that this norm alone uses",
            "fixed-eps",
        )
    return ScaledNumber(eps.module, names[0], eps.power)


def _freed(
    model_or_captured: nn.Module | Captured,
    examples: Sequence[Any],
    rules: Sequence[_Rule],
    within: CouplingLimits,
) -> Coupling:
    """A coupling in which the widths of these rules can grow, if nothing else is in their way."""
    model = _model_of(model_or_captured)
    of_norms = _under_norms(model, [rule.norms for rule in rules])
    freed = _coupled(model_or_captured, examples, of_norms, within)
    sites, nodes, numbers = {}, {}, {}
    for rule in rules:
        (number,) = freed.widths_along(*rule.norms.sites[0].key)  # its axes hold nothing else
        if freed.widths[number].growable:
            sites[number], nodes[number] = rule.norms.sites, rule.norms.nodes
            numbers[number] = rule.numbers
    return replace(freed, under_norms=sites, norm_nodes=nodes, norm_numbers=numbers)


def free_for_multiples(
    model_or_captured: nn.Module | Captured,
    coupling: Coupling,
    names: Sequence[str],
    examples: Sequence[Any],
) -> Coupling:
    """Couple once more, so that all neurons of some widths can split alike.

    With every neuron t times no mean over the neurons changes, and so no norm does, whatever is
    normalized where.

    Args:
        model_or_captured: what was coupled.
        coupling: what ``couple`` found.
        names: the widths, refused by a code of ``UNDER_NORMS`` there.
        examples: the example inputs.

    Returns:
        The widths, those of ``names`` growable.

    Raises:
        GrowthError: if one cannot grow for another reason as well.
    """
    # No rule is needed: copies are plain splits, and the check of widen sees the rest.
    keys = [site.key for name in names for site in coupling.by_name[name].sites]
    freed = _coupled(model_or_captured, examples, UnderNorms(keys))
    for name in names:
        _name_of(freed, coupling.by_name[name].sites[0].key)
    return freed


def require_multiple(width: Width, count: int) -> None:
    """Check that so many neurons more are a multiple of a width under norms.

    Args:
        width: the width.
        count: how many neurons it is to gain by splitting.

    Raises:
        GrowthError: the width's code.
    """
    if count % width.size:
        why = f"splitting works for whole multiples only ({_multiples(width)}), since the norm"
        raise _cannot_grow(width, f"{why} must see every neuron as often; how='new' may add any")


def _multiples(width: Width) -> str:
    return f"{width.size}, {2 * width.size}, ... neurons more"


def _observed(model_or_captured: nn.Module | Captured, examples: Sequence[Any]) -> Context:
    """What a run with open norms records."""
    subjects = subjects_of(model_or_captured, None, examples)
    model = _model_of(model_or_captured)
    with exclusive_autograd(), garbage_collection_off(), preserve_attributes(model):
        return observe(subjects, open_norms=True)


def _coupled(
    model_or_captured: nn.Module | Captured,
    examples: Sequence[Any],
    under_norms: UnderNorms,
    within: CouplingLimits = EVERYWHERE,
) -> Coupling:
    subjects = subjects_of(model_or_captured, None, examples)
    models = [of_example[-1] for of_example in subjects]
    model = models[0].model
    patterns = Patterns.of(model, *within)
    with exclusive_autograd(), garbage_collection_off(), preserve_attributes(model):
        return resolve_coupling(subjects, models, patterns, size_records(model), under_norms)


def _under_norms(model: nn.Module, rules: Sequence[NormRule]) -> UnderNorms:
    keys = [site.key for rule in rules for site in rule.sites]
    bare: dict[str, AxisKey] = {}
    # A norm with a weight takes its shape from that.
    for rule in rules:
        for path in rule.modules:
            module = model.get_submodule(path)
            if isinstance(module, ROW_NORM_TYPES) and getattr(module, "weight", None) is None:
                bare[path] = rule.sites[0].key
    return UnderNorms(keys, ties=True, bare=bare)


def _name_of(freed: Coupling, key: AxisKey) -> str:
    """The name that the width of an axis has now, if it can grow."""
    (number,) = freed.widths_along(*key)  # all of a width's axes hold nothing else
    width = freed.widths[number]
    if width.refusal is not None:
        raise _cannot_grow(width, "")
    return width.name


def _model_of(model_or_captured: nn.Module | Captured) -> nn.Module:
    """The user's own model."""
    if isinstance(model_or_captured, Captured):
        return model_or_captured.model
    return model_or_captured


def _cannot_grow(width: Width, why: str, own_code: str = "") -> GrowthError:
    """The error of a width; ``own_code``: of the reason, else it is that of the refusal."""
    code, reason = "normalised", ""
    if width.refusal is not None:
        code, reason = width.refusal.code, width.refusal.reason
    code = own_code or code
    reasons = "; ".join(filter(None, (reason, why)))
    return GrowthError(code, f"width {width.name!r} cannot grow: {reasons}")
