"""How a width grows under its norms: the stream of a transformer, with layer norms or RMS norms.

A stream of d neurons becomes one of d' = s^2 d. What a norm divides by is a mean over the neurons,

    RMS norm:    y = gamma x / sqrt(mean(x^2) + eps)
    layer norm:  y = gamma (x - mean(x)) / sqrt(var(x) + eps) + beta,

and stays what it was if every old neuron is s times as large, and a new one is 0 (RMS norm), or the
mean of the old ones (layer norm): the mean of squares is s^2 d / d' = 1 times the old one. Then no
norm notices, whatever its eps and wherever that is written down, and what it gives is s times as
large as before, which gamma / s takes back. Behind the norm a new neuron is 0, so that weights which
read it are free.

Every axis that holds neurons of the stream gets a power of s, and a rule for its new entries. The
powers are the solution of one equation per use (``deg``: the power of s that an activation has):

    a norm:                deg(before) = 1, deg(inside) = 1
    a parameter is added:  power = deg
    a weight writes:       power = deg
    a weight reads:        power = -deg
    a parameter scales:    deg(behind) = deg(before) + power

Reference: the rules of function-preserving growth under norms are those of Gesmundo and Maile,
"Composable Function-preserving Expansions for Transformer Architectures" (2023), for RMS norm, and
of Wang et al., "LEMON: Lossless Model Expansion" (ICLR 2024), for layer norm. How we differ: eps
stays, since writers are scaled; and no model family is known by name.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from fxgrow.coupling.keys import AxisKey
from fxgrow.coupling.labels import Ints, components, touching_fixed
from fxgrow.coupling.values import Context
from fxgrow.coupling.widths import Coupling, Width

UNDER_NORMS = frozenset({"normalised", "reduced"})
"""The refusals of widths that norms run over."""


class Fill(StrEnum):
    """What the new entries of an axis are."""

    ZERO = "0"
    MEAN = "the mean of the old entries"
    WEIGHTED_MEAN = "the mean of the old entries, each times what scales it"
    RANDOM = "random, since what they read is 0"
    ONE = "1, since the mean of the old ones is in what it scales"
    TYPICAL = "as large as the old entries, since what they scale is 0"


@dataclass(frozen=True)
class SiteRule:
    """How one axis grows.

    Args:
        key: the axis.
        power: its old entries are multiplied by sqrt(d' / d) to this power.
        fill: what its new entries are.
        weights: of a weighted mean the axis of the parameter that scales.
        offset: what is added to the parameter before it is used (1 of ``1 + gamma``): their sum is
            what is multiplied.
    """

    key: AxisKey
    power: int
    fill: Fill
    weights: AxisKey | None = None
    offset: float = 0.0


@dataclass(frozen=True)
class NormRule:
    """How a width grows under its norms.

    Args:
        sites: how each of its axes grows.
        modules: the paths of the modules that normalize it.
    """

    sites: tuple[SiteRule, ...]
    modules: frozenset[str]


class NoRuleError(Exception):
    """A width cannot grow under its norms by just any number; the message says why."""


def norm_rule(coupling: Coupling, width: Width, opened: Context) -> NormRule:
    """Find out how a width grows under its norms.

    Args:
        coupling: the neurons of the model, in which the width is refused.
        width: the width.
        opened: what a run with open norms recorded.

    Returns:
        A rule for each of its axes, and where its norms are.

    Raises:
        NoRuleError: there is none.
    """
    uses = _uses(coupling, width, opened)
    powers = _powers(uses)
    fills = _fills(uses)
    rules = []
    for key in uses.keys:
        fill, weights = _fill_of(key, uses, fills)
        offset = _offset_of(key, uses)
        rules.append(SiteRule(key, powers[key], fill, weights, offset))
    return NormRule(tuple(rules), uses.modules)


Group = int
"""A number for the neurons of the width at one place: before a norm, inside it, behind it."""


@dataclass(frozen=True)
class _Scale:
    before: Group
    behind: Group
    key: AxisKey
    offset: float | None


@dataclass(frozen=True)
class _Uses:
    """What is done with the neurons of a width, by groups.

    Args:
        keys: its axes.
        norms: (before, inside, whether it subtracts the mean).
        scales: products with parameters.
        reads: weights, and what they read.
        direct: parameters that write an activation, or are added to it, and that activation.
        modules: the paths of the modules in which the norms run.
    """

    keys: tuple[AxisKey, ...]
    norms: tuple[tuple[Group, Group, bool], ...]
    scales: tuple[_Scale, ...]
    reads: tuple[tuple[AxisKey, Group], ...]
    direct: tuple[tuple[AxisKey, Group], ...] = ()
    modules: frozenset[str] = frozenset()

    def groups(self) -> Iterator[Group]:
        """All groups, some more than once."""
        for before, inside, _ in self.norms:
            yield from (before, inside)
        for scale in self.scales:
            yield from (scale.before, scale.behind)
        for _, group in self.reads:
            yield group


class _Groups:
    """Numbers groups by the classes of their labels."""

    def __init__(self, opened: Context, size: int) -> None:
        self.classes = components(opened.labels.count, opened.labels.pairs)
        self.size = size
        self.numbers: dict[bytes, Group] = {}
        self.members: list[Ints] = []

    def number(self, labels: Ints) -> Group | None:
        """The group of these labels; None if they are not as many as the width has neurons."""
        if len(labels) != self.size:
            return None
        classes = self.classes[labels]
        name = classes.tobytes()
        if name not in self.numbers:
            self.numbers[name] = len(self.members)
            self.members.append(classes)
        return self.numbers[name]


def _uses(coupling: Coupling, width: Width, opened: Context) -> _Uses:
    """What is done with the neurons of a width."""
    runs = {site.key: _runs(coupling, width, site.key) for site in width.sites}
    groups = _Groups(opened, width.size)
    keys = tuple(runs)
    events = _events_of(opened, runs, groups)
    labels_of = {axis.key: axis.labels for axis in opened.axes}
    seen = set(events.groups())
    direct = []
    for key in keys:
        group = groups.number(labels_of[key])
        if group in seen and group is not None:
            direct.append((key, group))
    used = {key for key, _ in (*direct, *events.reads)} | {scale.key for scale in events.scales}
    for key in keys:
        if key not in used:
            raise NoRuleError(f"what {key.parameter} does with it is not known under a norm")
    _require_free(opened, groups, seen)
    _require_own_norms(opened, groups, seen)
    return replace(events, direct=tuple(direct))


def _runs(coupling: Coupling, width: Width, key: AxisKey) -> list[int]:
    """Where each run of all neurons starts on an axis: what reads a concatenation has several."""
    number, owners = coupling.number_of[width.name], coupling.owners[key]
    count = len(owners.width) // width.size
    in_order = np.tile(np.arange(width.size), count)
    is_whole = len(owners.width) == len(in_order) and (owners.width == number).all()
    if not is_whole or (owners.neuron != in_order).any():
        raise NoRuleError(f"{key.parameter} holds its neurons beside others, or reordered")
    return [run * width.size for run in range(count)]


def _events_of(
    opened: Context, runs: Mapping[AxisKey, Sequence[int]], groups: _Groups
) -> _Uses:
    """What the run recorded of these axes, and the norms around them."""
    record, keys = opened.open_norms, tuple(runs)
    wanted = set(keys)
    if record is None:
        raise NoRuleError("no run with open norms was made")
    scales, reads = [], []
    for scaling in record.scalings:
        before, behind = groups.number(scaling.before), groups.number(scaling.behind)
        if scaling.key in wanted and before is not None and behind is not None:
            scales.append(_Scale(before, behind, scaling.key, scaling.offset))
    for reading in record.readings:
        for start in runs.get(reading.key, ()):
            group = groups.number(reading.labels[start : start + groups.size])
            if group is not None:
                reads.append((reading.key, group))
    labels_of = {axis.key: axis.labels for axis in opened.axes}
    touched = {groups.number(labels_of[key]) for key in keys}
    touched.update(group for _, group in reads)
    for scale in scales:
        touched.update((scale.before, scale.behind))
    norms, modules = [], set()
    for norm in record.norms:
        before, inside = groups.number(norm.before), groups.number(norm.inside)
        if before is not None and inside is not None and not touched.isdisjoint({before, inside}):
            norms.append((before, inside, norm.is_centered))
            modules.add(norm.module)
    if not norms:
        raise NoRuleError("what normalizes it is no layer norm and no root mean square norm")
    return _Uses(
        keys,
        tuple(dict.fromkeys(norms)),
        tuple(scales),
        tuple(reads),
        modules=frozenset(modules),
    )


def _require_free(opened: Context, groups: _Groups, seen: set[Group]) -> None:
    """Refuse what something other than a norm keeps from growing."""
    members = np.concatenate([groups.members[group] for group in seen])
    for pin in opened.labels.pins:
        if np.isin(groups.classes[pin.labels], members).any():
            raise NoRuleError(pin.reason)
    if np.isin(groups.classes[touching_fixed(opened.labels.pairs)], members).any():
        raise NoRuleError("combined with a value whose size there is fixed")


def _require_own_norms(opened: Context, groups: _Groups, seen: set[Group]) -> None:
    """Refuse neurons that a norm runs over together with others: of a neighbour, say."""
    members = np.concatenate([groups.members[group] for group in seen])
    for norm in opened.open_norms.norms if opened.open_norms else ():
        is_larger = len(norm.before) != groups.size
        if is_larger and np.isin(groups.classes[norm.before], members).any():
            raise NoRuleError(f"{norm.module} normalizes it together with others")


Unknown = tuple[str, object]
"""("degree", a group) or ("power", an axis)."""

Equation = Mapping[Unknown, int]
"""The factor of each unknown; their sum is 0."""


def _degree(group: Group) -> Unknown:
    return "degree", group


def _power(key: AxisKey) -> Unknown:
    return "power", key


def _powers(uses: _Uses) -> dict[AxisKey, int]:
    """The power of s of each axis: see the equations above."""
    known: dict[Unknown, int] = {}
    for before, inside, _ in uses.norms:
        known |= {_degree(before): 1, _degree(inside): 1}
    equations: list[Equation] = []
    for key, group in uses.direct:
        equations.append({_power(key): 1, _degree(group): -1})
    for key, group in uses.reads:
        equations.append({_power(key): 1, _degree(group): 1})
    for scale in uses.scales:
        before, behind = _degree(scale.before), _degree(scale.behind)
        if scale.before != scale.behind:
            factor = {} if scale.offset is None else {_power(scale.key): -1}
            equations.append({behind: 1, before: -1, **factor})
        if scale.offset is None:
            equations.append({_power(scale.key): 1})
    _propagate(equations, known)
    for unknown in _in_order_of_choice(uses, known):
        if unknown not in known:
            known[unknown] = 0
            _propagate(equations, known)
    return {key: known[_power(key)] for key in uses.keys}


def _in_order_of_choice(uses: _Uses, known: dict[Unknown, int]) -> Iterator[Unknown]:
    """What is 0 if nothing says otherwise: best the degree behind a norm, so that readers stay."""
    for scale in uses.scales:
        if _degree(scale.before) in known:
            yield _degree(scale.behind)
    for scale in uses.scales:
        yield _power(scale.key)
    for group in uses.groups():
        yield _degree(group)
    for key in uses.keys:
        yield _power(key)


def _propagate(equations: Sequence[Equation], known: dict[Unknown, int]) -> None:
    """Solve every equation that has one unknown left, until none has."""
    is_done = False
    while not is_done:
        is_done = True
        for equation in equations:
            left = [unknown for unknown in equation if unknown not in known]
            total = sum(factor * known.get(unknown, 0) for unknown, factor in equation.items())
            if not left and total:
                raise NoRuleError("its parameters are used both before a norm and behind it")
            if len(left) == 1:
                known[left[0]] = -total // equation[left[0]]
                is_done = False


def _fills(uses: _Uses) -> dict[Group, Fill]:
    """What a new neuron is in each group; not in those that no norm says anything of."""
    fills: dict[Group, Fill] = {}
    for before, inside, is_centered in uses.norms:
        _set_fill(fills, before, Fill.MEAN if is_centered else Fill.ZERO)
        _set_fill(fills, inside, Fill.ZERO)
    for _ in uses.scales:  # as many rounds as the longest chain of products can have
        for scale in uses.scales:
            if fills.get(scale.before) is Fill.ZERO:
                _set_fill(fills, scale.behind, Fill.ZERO)
    for _ in uses.scales:
        for scale in uses.scales:
            behind = fills.get(scale.behind)
            if scale.before not in fills and behind is not None:
                is_zero = behind is Fill.ZERO
                fills[scale.before] = Fill.ZERO if is_zero else Fill.WEIGHTED_MEAN
    return fills


def _set_fill(fills: dict[Group, Fill], group: Group, fill: Fill) -> None:
    if fills.setdefault(group, fill) is not fill:
        raise NoRuleError(
            "a norm's own result is normalised again together with it (post-norm), where a new "
            "neuron can be neither 0 nor the mean of the others"
        )


def _offset_of(key: AxisKey, uses: _Uses) -> float:
    """The number that is added to a parameter wherever it is used."""
    offsets = {scale.offset or 0.0 for scale in uses.scales if scale.key == key}
    used_otherwise = {one for one, _ in (*uses.direct, *uses.reads)}
    if len(offsets) > 1 or (any(offsets) and key in used_otherwise):
        raise NoRuleError(f"{key.parameter} is used with a number added to it and without")
    return offsets.pop() if offsets else 0.0


def _fill_of(
    key: AxisKey, uses: _Uses, fills: Mapping[Group, Fill]
) -> tuple[Fill, AxisKey | None]:
    """What the new entries of an axis are; of a weighted mean also the axis with the weights."""
    read = {fills.get(group, Fill.MEAN) for one, group in uses.reads if one == key}
    for one, group in uses.direct:
        if one != key:
            continue
        if read - {Fill.ZERO}:
            raise NoRuleError(f"{key.parameter} reads what it writes")
        fill = fills.get(group, Fill.ZERO)
        weights = None
        if fill is Fill.WEIGHTED_MEAN:
            scaled_by = {scale.key for scale in uses.scales if scale.before == group}
            if len(scaled_by) != 1:
                raise NoRuleError(f"{key.parameter} is scaled by several parameters")
            weights = scaled_by.pop()
        return fill, weights
    for scale in uses.scales:
        if scale.key == key:
            is_mean = fills.get(scale.before) is Fill.WEIGHTED_MEAN
            return (Fill.ONE if is_mean else Fill.TYPICAL), None
    return (Fill.RANDOM if read == {Fill.ZERO} else Fill.ZERO), None
