"""Coupling: which parameter slices together make one neuron, and which of those sets can grow."""

from fxgrow.coupling.changes import change_maps, set_attributes
from fxgrow.coupling.couple import couple
from fxgrow.coupling.fixed_axes import FixedAxis
from fxgrow.coupling.grown import grown_widths
from fxgrow.coupling.keys import AxisKey, WidthId
from fxgrow.coupling.meta_copy import meta_copy, meta_inputs
from fxgrow.coupling.norm_rules import NO_RULE, UNDER_NORMS
from fxgrow.coupling.rules import register_rule
from fxgrow.coupling.site_rules import WRITTEN_FILLS, Fill, SiteRule
from fxgrow.coupling.under_norms import (
    CouplingLimits,
    free_for_multiples,
    free_for_new_neurons,
    free_if_possible,
    require_multiple,
)
from fxgrow.coupling.values import Role
from fxgrow.coupling.widths import Coupling, NodeShape, Owners, Site, Unreached, Width

__all__ = [
    "NO_RULE",
    "UNDER_NORMS",
    "WRITTEN_FILLS",
    "AxisKey",
    "Coupling",
    "CouplingLimits",
    "Fill",
    "FixedAxis",
    "NodeShape",
    "Owners",
    "Role",
    "Site",
    "SiteRule",
    "Unreached",
    "Width",
    "WidthId",
    "change_maps",
    "couple",
    "free_for_multiples",
    "free_for_new_neurons",
    "free_if_possible",
    "grown_widths",
    "meta_copy",
    "meta_inputs",
    "register_rule",
    "require_multiple",
    "set_attributes",
]
