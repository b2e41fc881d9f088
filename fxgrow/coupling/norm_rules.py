"""How a width grows under its norms: the stream of a transformer, with layer norms or RMS norms.

A stream of d neurons becomes one of d' = s^2 d. What a norm divides by is a mean over the neurons,

    RMS norm:    y = gamma x / sqrt(mean(x^2) + eps)
    layer norm:  y = gamma (x - mean(x)) / sqrt(var(x) + eps) + beta,

and stays what it was if every old neuron is s times as large, and a new one is 0 (RMS norm), or the
mean of the old ones (layer norm): the mean of squares is s^2 d / d' = 1 times the old one. Then no
norm notices, whatever its eps and wherever that is written down, and what it gives is s times as
large as before, which gamma / s takes back. Behind the norm a new neuron is 0, so that weights that
read it are free.

A global response norm (ConvNeXt-V2) divides a number g for each neuron, the norm of its map, by the
mean of all of them:

    response norm:    y = gamma x g / (mean(g) + eps) + beta + x

What writes x stays as it is, since a nonlinear function lies between, and a new neuron is 0. So the
mean is d / d' = s^-2 times the old one, eps has to follow, and gamma / s^2 takes back the rest.

Every axis that holds neurons of the stream gets a power of s, and a rule for its new entries. The
powers are the solution of one equation per use (``deg``: the power of s that an activation has):

    a norm:                deg(before) = 1, deg(inside) = 1
    a response norm:       deg(before) = 0, deg(inside) = 2, power of eps = -2
    a parameter is added:  power = deg
    a weight writes:       power = deg
    a weight reads:        power = -deg
    a parameter scales:    deg(behind) = deg(before) + power

Reference: function-preserving growth under norms is that of Gesmundo and Maile, "Composable
Function-preserving Expansions for Transformer Architectures" (2023), for RMS norm, and of Wang et
al., "LEMON: Lossless Model Expansion" (ICLR 2024), for layer norm. How we differ: eps stays, since
writers are scaled; and no model family is known by name.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fxgrow.coupling.context import Context
from fxgrow.coupling.keys import AxisKey
from fxgrow.coupling.norm_uses import NoRuleError, Place, Uses, uses_of
from fxgrow.coupling.open_norms import NormKind, OpenNorms
from fxgrow.coupling.site_rules import Fill, SiteRule
from fxgrow.coupling.widths import Coupling, Width

UNDER_NORMS = frozenset({"normalised", "reduced"})
"""The refusals of widths that norms run over."""

NO_RULE = UNDER_NORMS | {"fixed-eps"}
"""The codes with which new neurons under norms are refused; splits in whole multiples may do."""


@dataclass(frozen=True)
class NormForm:
    """What a kind of norm asks of the neurons before and inside it.

    Args:
        before: the power of s of what it normalizes.
        inside: the power of s of what it gives.
        fill: what a new neuron is before it.
        eps: the power of s of its eps, which stays where that is 0.
    """

    before: int
    inside: int
    fill: Fill
    eps: int = 0


NORM_FORMS = {
    # A mean over one neuron more stays what it is if that neuron is the mean.
    NormKind.LAYER: NormForm(before=1, inside=1, fill=Fill.MEAN),
    NormKind.ROOT_MEAN_SQUARE: NormForm(before=1, inside=1, fill=Fill.ZERO),
    NormKind.RESPONSE: NormForm(before=0, inside=2, fill=Fill.ZERO, eps=-2),
}
"""How neurons grow before and inside each kind of norm."""


@dataclass(frozen=True)
class EpsUse:
    """An eps that has to follow a width.

    Args:
        value: what it is; None if that is no number of Python.
        module: the path of the module in which it is added.
        power: it is multiplied by s to this power.
        is_shared: whether norms of other widths in the module may use it as well.
    """

    value: float | None
    module: str
    power: int
    is_shared: bool


@dataclass(frozen=True)
class NormRule:
    """How a width grows under its norms.

    Args:
        sites: how each of its axes grows.
        modules: the paths of the modules that normalize it.
        nodes: the nodes of a graph that do.
        eps: what of its norms has to follow.
    """

    sites: tuple[SiteRule, ...]
    modules: frozenset[str]
    nodes: frozenset[str] = frozenset()
    eps: tuple[EpsUse, ...] = ()


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
    uses = uses_of(coupling, width, opened)
    powers = _powers(uses)
    fills = _fills(uses)
    rules = []
    # One rule per axis, also of a parameter that is used in several places.
    for key in uses.keys:
        fill, weights = _fill_of(key, uses, fills)
        offset = _offset_of(key, uses)
        rules.append(SiteRule(key, powers[key], fill, weights, offset))
    modules = frozenset(norm.module for norm in uses.norms)
    nodes = frozenset(norm.node for norm in uses.norms if norm.node)
    return NormRule(tuple(rules), modules, nodes, tuple(_eps_uses(uses, opened)))


def _eps_uses(uses: Uses, opened: Context) -> Iterator[EpsUse]:
    """The eps that have to follow, one for each module and value."""
    recorded = Counter(norm.module for norm in (opened.open_norms or OpenNorms()).norms)
    own = Counter(norm.module for norm in uses.norms)
    # The run of a graph knows no modules; that of the model does, if that is no graph itself.
    by_model = [norm for norm in uses.norms if not norm.node] or uses.norms
    seen: set[tuple[str, float | None]] = set()
    for norm in by_model:
        power = NORM_FORMS[norm.kind].eps
        if power and norm.eps != 0 and (norm.module, norm.eps) not in seen:
            seen.add((norm.module, norm.eps))
            is_shared = recorded[norm.module] != own[norm.module]
            yield EpsUse(norm.eps, norm.module, power, is_shared)


_Unknown = tuple[str, Place | AxisKey]
"""("degree", a place) or ("power", an axis)."""

_Equation = Mapping[_Unknown, int]
"""The factor of each unknown; the sum of all is 0."""


def _degree(place: Place) -> _Unknown:
    return "degree", place


def _power(key: AxisKey) -> _Unknown:
    return "power", key


def _powers(uses: Uses) -> dict[AxisKey, int]:
    """The power of s of each axis, by the equations above."""
    known: dict[_Unknown, int] = {}
    for norm in uses.norms:
        form = NORM_FORMS[norm.kind]
        for place, degree in ((norm.before, form.before), (norm.inside, form.inside)):
            if known.setdefault(_degree(place), degree) != degree:
                raise NoRuleError("two kinds of norms ask different things of it")
    equations = _equations(uses)
    _propagate(equations, known)
    # What the equations leave open is free: each choice may settle more.
    for unknown in _in_order_of_choice(uses, known):
        if unknown not in known:
            known[unknown] = 0
            _propagate(equations, known)
    return {key: known[_power(key)] for key in uses.keys}


def _equations(uses: Uses) -> list[_Equation]:
    equations: list[_Equation] = []
    for key, place in uses.direct:
        equations.append({_power(key): 1, _degree(place): -1})
    for key, place in uses.reads:
        equations.append({_power(key): 1, _degree(place): 1})
    for scale in uses.scales:
        # deg(behind) - deg(before) - power = 0; a factor computed otherwise cannot be scaled.
        terms = {_degree(scale.behind): 1, _power(scale.key): -1}
        if scale.before != scale.behind:
            terms[_degree(scale.before)] = -1
            equations.append(terms)
        if scale.offset is None:
            equations.append({_power(scale.key): 1})
    return equations


def _in_order_of_choice(uses: Uses, known: dict[_Unknown, int]) -> Iterator[_Unknown]:
    """What is 0 if nothing says otherwise: best the degree behind a norm, so that readers stay."""
    # A gain takes back what its norm adds; a layer scale stays, and its branch is scaled.
    for scale in uses.scales:
        if _degree(scale.before) in known:
            yield _degree(scale.behind)
    for scale in uses.scales:
        yield _power(scale.key)
    for place in uses.places():
        yield _degree(place)
    for key in uses.keys:
        yield _power(key)


def _propagate(equations: Sequence[_Equation], known: dict[_Unknown, int]) -> None:
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


def _fills(uses: Uses) -> dict[Place, Fill]:
    """What a new neuron is in each place; not in those that no norm says anything of."""
    fills: dict[Place, Fill] = {}
    for norm in uses.norms:
        _set_fill(fills, norm.before, NORM_FORMS[norm.kind].fill)
        _set_fill(fills, norm.inside, Fill.ZERO)
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


def _set_fill(fills: dict[Place, Fill], place: Place, fill: Fill) -> None:
    if fills.setdefault(place, fill) is not fill:
        raise NoRuleError(
            "a norm's own result is normalised again together with it (post-norm), where a new "
            "neuron can be neither 0 nor the mean of the others"
        )


def _offset_of(key: AxisKey, uses: Uses) -> float:
    """The number that is added to a parameter wherever it is used."""
    offsets = {scale.offset or 0.0 for scale in uses.scales if scale.key == key}
    used_otherwise = {one for one, _ in (*uses.direct, *uses.reads)}
    # (c + w) s is no multiple of w: only where w is used with c everywhere.
    if len(offsets) > 1 or (any(offsets) and key in used_otherwise):
        raise NoRuleError(f"{key.parameter} is used with a number added to it and without")
    return offsets.pop() if offsets else 0.0


def _fill_of(key: AxisKey, uses: Uses, fills: Mapping[Place, Fill]) -> tuple[Fill, AxisKey | None]:
    """What the new entries of an axis are; of a weighted mean also the axis with the weights."""
    # What a reader meets at a new neuron: behind a norm 0, elsewhere some number.
    read = {fills.get(place, Fill.MEAN) for one, place in uses.reads if one == key}
    for one, place in uses.direct:
        if one != key:
            continue
        if read - {Fill.ZERO}:
            raise NoRuleError(f"{key.parameter} reads what it writes")
        fill = fills.get(place, Fill.ZERO)
        weights = None
        if fill is Fill.WEIGHTED_MEAN:
            scaled_by = {scale.key for scale in uses.scales if scale.before == place}
            if len(scaled_by) != 1:
                raise NoRuleError(f"{key.parameter} is scaled by several parameters")
            weights = scaled_by.pop()
        return fill, weights
    for scale in uses.scales:
        if scale.key == key:
            is_mean = fills.get(scale.before) is Fill.WEIGHTED_MEAN
            return (Fill.ONE if is_mean else Fill.TYPICAL), None
    return (Fill.RANDOM if read == {Fill.ZERO} else Fill.ZERO), None
