"""Rewriting fx graphs: the over-grown graph with all candidates in it, and candidate layers."""

from fxgrow.rewrite.candidates import Candidates, Entry, Slots
from fxgrow.rewrite.lanes import NEW
from fxgrow.rewrite.overgrow import OverGrown, overgrow
from fxgrow.rewrite.overgrown_layer import OvergrownLayer
from fxgrow.rewrite.residual import (
    LAYER_NAMESPACE,
    DepthProposal,
    IdentityLayer,
    InsertionPoint,
    LayerForm,
    insert_layers,
    insertion_points,
    remove_layers,
)

__all__ = [
    "LAYER_NAMESPACE",
    "NEW",
    "Candidates",
    "DepthProposal",
    "Entry",
    "IdentityLayer",
    "InsertionPoint",
    "LayerForm",
    "OverGrown",
    "OvergrownLayer",
    "Slots",
    "insert_layers",
    "insertion_points",
    "overgrow",
    "remove_layers",
]
