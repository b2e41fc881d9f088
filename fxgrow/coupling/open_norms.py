"""What a run with open norms records: a norm's input and result keep labels of their own there.

Elsewhere all that a norm touches is one width. To say how a width grows *under* its norms, one must
know what lies before a norm and what behind it, which parameters scale, and which weights read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from fxgrow.coupling.keys import AxisKey
from fxgrow.coupling.labels import Ints


class NormKind(StrEnum):
    """What a norm divides by."""

    LAYER = "layer norm"
    ROOT_MEAN_SQUARE = "root mean square norm"
    RESPONSE = "global response norm"


class Moment(StrEnum):
    """What a tensor holds on the way to a norm that is written out."""

    SQUARE = "x^2"
    MEAN_SQUARE = "mean(x^2)"
    ROOT = "sqrt(mean(x^2))"
    INVERSE_ROOT = "1 / sqrt(mean(x^2))"
    SPREAD = "|x| of each neuron by itself"
    MEAN_SPREAD = "mean(|x|)"
    RELATIVE_SPREAD = "|x| / mean(|x|)"


class Statistic(NamedTuple):
    """A moment of a tensor x.

    Args:
        moment: which.
        labels: those of x, by the dimension along which they lie, counted from the last one (-1);
            of a mean those along its dimension only.
        eps: what was added to a mean; None if that is no number of Python.
    """

    moment: Moment
    labels: Mapping[int, Ints]
    eps: float | None = 0.0


@dataclass(frozen=True, eq=False)
class Norm:
    """A norm over all neurons of a width, without its gain and shift.

    Args:
        before: the labels of what it normalizes.
        inside: those of what it gives.
        kind: which norm it is.
        module: the path of the module in which it runs.
        node: the node of the graph that runs it; "" where the model itself runs.
        eps: what it adds to a mean, if that is written out; None if that is no number of Python.
    """

    before: Ints
    inside: Ints
    kind: NormKind
    module: str
    node: str = ""
    eps: float | None = 0.0


@dataclass(frozen=True, eq=False)
class Scaling:
    """A product of an activation with a parameter, neuron by neuron.

    Args:
        before: the labels of the activation.
        behind: those of the product.
        key: the axis of the parameter.
        offset: the factor is this number plus the parameter; None if it is something else.
    """

    before: Ints
    behind: Ints
    key: AxisKey
    offset: float | None


@dataclass(frozen=True, eq=False)
class Reading:
    """A weight that sums over an activation's neurons along one of its axes."""

    key: AxisKey
    labels: Ints


@dataclass(frozen=True)
class OpenNorms:
    """All that a run with open norms records."""

    norms: list[Norm] = field(default_factory=list)
    scalings: list[Scaling] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
