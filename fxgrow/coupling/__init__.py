"""Coupling: which parameter slices together make one neuron, and which of those sets can grow."""

from fxgrow.coupling.changes import change_maps, set_attributes
from fxgrow.coupling.couple import couple
from fxgrow.coupling.fixed_axes import FixedAxis
from fxgrow.coupling.keys import AxisKey, WidthId
from fxgrow.coupling.meta_copy import meta_copy, meta_inputs
from fxgrow.coupling.rules import register_rule
from fxgrow.coupling.values import Role
from fxgrow.coupling.widths import Coupling, NodeShape, Owners, Site, Unreached, Width

__all__ = [
    "AxisKey",
    "Coupling",
    "FixedAxis",
    "NodeShape",
    "Owners",
    "Role",
    "Site",
    "Unreached",
    "Width",
    "WidthId",
    "change_maps",
    "couple",
    "meta_copy",
    "meta_inputs",
    "register_rule",
    "set_attributes",
]
