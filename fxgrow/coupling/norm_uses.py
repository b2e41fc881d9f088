"""What is done with the neurons of a width under norms, place by place.

Neurons of a width are before a norm, inside it, behind its gain: each is a place. A run with open
norms (``open_norms``) gives each place labels of its own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fxgrow.coupling.context import Context
from fxgrow.coupling.keys import AxisKey
from fxgrow.coupling.labels import Ints, components, touching_fixed
from fxgrow.coupling.open_norms import NormKind, OpenNorms
from fxgrow.coupling.widths import Coupling, Width

Place = int
"""The number of a place."""


class NoRuleError(Exception):
    """A width cannot grow under its norms by just any number; the message says why.

    Args:
        message: why.
        own_code: of the refusal; "" for that which the width has anyway.
    """

    def __init__(self, message: str, own_code: str = "") -> None:
        super().__init__(message)
        self.own_code = own_code


@dataclass(frozen=True)
class ScaleUse:
    """A product with a parameter plus ``offset``; with what else it is computed from, if None."""

    before: Place
    behind: Place
    key: AxisKey
    offset: float | None


@dataclass(frozen=True)
class NormUse:
    """A norm without its gain, as in ``Norm``."""

    before: Place
    inside: Place
    kind: NormKind
    module: str
    node: str = ""
    eps: float | None = 0.0


@dataclass(frozen=True)
class Uses:
    """What is done with the neurons of a width.

    Args:
        keys: its axes.
        norms: the norms that run over it.
        scales: products with parameters.
        reads: weights, and what they read.
        direct: parameters that write an activation or are added to it, and that activation.
    """

    keys: tuple[AxisKey, ...]
    norms: tuple[NormUse, ...]
    scales: tuple[ScaleUse, ...]
    reads: tuple[tuple[AxisKey, Place], ...]
    direct: tuple[tuple[AxisKey, Place], ...] = ()

    def places(self) -> Iterator[Place]:
        """All places, some more than once."""
        for norm in self.norms:
            yield from (norm.before, norm.inside)
        for scale in self.scales:
            yield from (scale.before, scale.behind)
        for _, place in self.reads:
            yield place


def uses_of(coupling: Coupling, width: Width, opened: Context) -> Uses:
    """Find out what is done with the neurons of a width.

    Args:
        coupling: the neurons of the model.
        width: the width.
        opened: what a run with open norms recorded.

    Returns:
        Every use of each of its axes.

    Raises:
        NoRuleError: something is done with them that no rule under a norm covers.
    """
    record = opened.open_norms or OpenNorms()
    # A tied parameter has a site once, however often it is used.
    runs = {site.key: _runs(coupling, width, site.key) for site in width.sites}
    places = _Places(opened, width.size)
    labels_of = {axis.key: axis.labels for axis in opened.axes}
    own = {key: places.number(labels_of[key]) for key in runs}
    scales = tuple(_scales(record, runs.keys(), places))
    reads = tuple(_reads(record, runs, places))
    # Norms count that touch the width; others belong to other streams of the same size.
    touched = {*own.values(), *(place for _, place in reads)}
    for scale in scales:
        touched |= {scale.before, scale.behind}
    # Dimensions are told apart by labels, so equal sizes do no harm.
    norms = tuple(_norms(record, touched, places))
    if not norms:
        raise NoRuleError(
            "what normalizes it is no layer norm, no root mean square norm and no global response "
            "norm by torch.linalg.vector_norm"
        )
    uses = Uses(tuple(runs), norms, scales, reads)
    seen = set(uses.places())
    direct = []
    for key, place in own.items():
        # The own labels of a weight that only reads are nobody else's.
        if place is not None and place in seen:
            direct.append((key, place))
    uses = replace(uses, direct=tuple(direct))
    _require_known(uses)
    _require_free(opened, places, seen)
    _require_own_norms(record, places, seen)
    return uses


class _Places:
    """Numbers places by the classes of their labels."""

    def __init__(self, opened: Context, size: int) -> None:
        self.classes = components(opened.labels.count, opened.labels.pairs)
        self.size = size
        self.numbers: dict[bytes, Place] = {}
        self.members: list[Ints] = []

    def number(self, labels: Ints) -> Place | None:
        """The place of these labels; None if they are not as many as the width has neurons."""
        if len(labels) != self.size:
            return None
        # Neuron by neuron, so that another order of the same neurons is another place.
        classes = self.classes[labels]
        name = classes.tobytes()
        if name not in self.numbers:
            self.numbers[name] = len(self.members)
            self.members.append(classes)
        return self.numbers[name]

    def hold(self, labels: Ints, places: Iterable[Place]) -> bool:
        """Whether some of these labels are neurons at one of these places."""
        members = np.concatenate([self.members[place] for place in places])
        return bool(np.isin(self.classes[labels], members).any())


def _runs(coupling: Coupling, width: Width, key: AxisKey) -> list[int]:
    """Where each run of all neurons starts on an axis: what reads a concatenation has several."""
    number, owners = coupling.number_of[width.name], coupling.owners[key]
    # A concatenation of k copies holds every neuron k times, in order each time.
    count = len(owners.width) // width.size
    in_order = np.tile(np.arange(width.size), count)
    is_whole = len(owners.width) == len(in_order) and (owners.width == number).all()
    if not is_whole or (owners.neuron != in_order).any():
        raise NoRuleError(f"{key.parameter} holds its neurons beside others, or reordered")
    return [run * width.size for run in range(count)]


def _scales(record: OpenNorms, keys: Iterable[AxisKey], places: _Places) -> Iterator[ScaleUse]:
    wanted = set(keys)
    for scaling in record.scalings:
        before, behind = places.number(scaling.before), places.number(scaling.behind)
        if scaling.key in wanted and before is not None and behind is not None:
            yield ScaleUse(before, behind, scaling.key, scaling.offset)


def _reads(
    record: OpenNorms, runs: Mapping[AxisKey, Sequence[int]], places: _Places
) -> Iterator[tuple[AxisKey, Place]]:
    for reading in record.readings:
        for start in runs.get(reading.key, ()):
            place = places.number(reading.labels[start : start + places.size])
            if place is not None:
                yield reading.key, place


def _norms(record: OpenNorms, touched: set[Place | None], places: _Places) -> Iterator[NormUse]:
    """The norms around what the axes of the width touch."""
    for norm in record.norms:
        before, inside = places.number(norm.before), places.number(norm.inside)
        if before is not None and inside is not None and not touched.isdisjoint({before, inside}):
            yield NormUse(before, inside, norm.kind, norm.module, norm.node, norm.eps)


def _require_known(uses: Uses) -> None:
    # What neither writes, is added, scales nor reads would be resized without a rule.
    used = {key for key, _ in (*uses.direct, *uses.reads)}
    used |= {scale.key for scale in uses.scales}
    for key in uses.keys:
        if key not in used:
            raise NoRuleError(f"what {key.parameter} does with it is not known under a norm")


def _require_free(opened: Context, places: _Places, seen: set[Place]) -> None:
    """Refuse what something other than a norm keeps from growing."""
    # Norms pin nothing in this run, so each pin is another reason.
    for pin in opened.labels.pins:
        if places.hold(pin.labels, seen):
            raise NoRuleError(pin.reason)
    if places.hold(touching_fixed(opened.labels.pairs), seen):
        raise NoRuleError("combined with a value whose size there is fixed")


def _require_own_norms(record: OpenNorms, places: _Places, seen: set[Place]) -> None:
    """Refuse neurons that a norm runs over together with others: of a neighbour, say."""
    for norm in record.norms:
        if len(norm.before) != places.size and places.hold(norm.before, seen):
            raise NoRuleError(f"{norm.module} normalizes it together with others")
