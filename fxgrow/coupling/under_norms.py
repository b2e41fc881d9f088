"""A coupling in which widths grow although norms run over them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from fxgrow.capture import Captured, preserve_attributes
from fxgrow.coupling.couple import garbage_collection_off, subjects_of
from fxgrow.coupling.keys import AxisKey
from fxgrow.coupling.norm_rules import NormRule, NoRuleError, SiteRule, norm_rule
from fxgrow.coupling.patterns import Patterns
from fxgrow.coupling.resolve import UnderNorms, resolve_coupling
from fxgrow.coupling.size_records import size_records
from fxgrow.coupling.trace import observe
from fxgrow.coupling.widths import Coupling, Width
from fxgrow.errors import GrowthError
from fxgrow.modes import exclusive_autograd
from fxgrow.surgery import ROW_NORM_TYPES


class Freed(NamedTuple):
    """A coupling in which widths that norms run over can grow.

    Args:
        coupling: the neurons of the model.
        rules: how each axis of these widths grows, by the name of the width.
    """

    coupling: Coupling
    rules: Mapping[str, tuple[SiteRule, ...]]


def couple_under_norms(
    model_or_captured: nn.Module | Captured,
    coupling: Coupling,
    names: Sequence[str],
    examples: Sequence[Any],
) -> Freed:
    """Couple once more, so that some widths can grow although norms run over them.

    Args:
        model_or_captured: what was coupled.
        coupling: what ``couple`` found.
        names: the widths, refused by a code of ``UNDER_NORMS`` there.
        examples: the example inputs.

    Returns:
        The widths, those of ``names`` growable, and their rules.

    Raises:
        GrowthError: the code of a width's refusal, if no rule makes up for its norms, or if it
            cannot grow for another reason as well.
    """
    subjects = subjects_of(model_or_captured, None, examples)
    models = [of_example[-1] for of_example in subjects]
    model = models[0].model
    patterns = Patterns.of(model, (), (), ())
    with exclusive_autograd(), garbage_collection_off(), preserve_attributes(model):
        opened = observe(subjects, open_norms=True)
        rules = {}
        for name in names:
            width = coupling.by_name[name]
            try:
                rules[name] = norm_rule(coupling, width, opened)
            except NoRuleError as error:
                raise _cannot_grow(width, str(error)) from error
        under_norms = _under_norms(model, list(rules.values()))
        freed = resolve_coupling(subjects, models, patterns, size_records(model), under_norms)
    return Freed(freed, _by_new_name(freed, list(rules.values())))


def _under_norms(model: nn.Module, rules: Sequence[NormRule]) -> UnderNorms:
    keys = [site.key for rule in rules for site in rule.sites]
    bare: dict[str, AxisKey] = {}
    for rule in rules:
        for path in rule.modules:
            module = model.get_submodule(path)
            if isinstance(module, ROW_NORM_TYPES) and module.weight is None:
                bare[path] = rule.sites[0].key
    return UnderNorms(keys, bare)


def _by_new_name(freed: Coupling, rules: Sequence[NormRule]) -> dict[str, tuple[SiteRule, ...]]:
    """The rules by the names that the widths have now."""
    by_name = {}
    for rule in rules:
        (number,) = freed.widths_along(*rule.sites[0].key)
        width = freed.widths[number]
        if width.refusal is not None:
            raise _cannot_grow(width, "")
        by_name[width.name] = rule.sites
    return by_name


def _cannot_grow(width: Width, why: str) -> GrowthError:
    code, reason = "normalised", ""
    if width.refusal is not None:
        code, reason = width.refusal.code, width.refusal.reason
    reasons = "; ".join(filter(None, (reason, why)))
    return GrowthError(code, f"width {width.name!r} cannot grow: {reasons}")
