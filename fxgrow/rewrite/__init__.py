"""Rewriting fx graphs: the over-grown graph with all candidates in it, and candidate layers."""

from fxgrow.deprecation import renamed_attributes
from fxgrow.rewrite.candidates import Candidates, Slots
from fxgrow.rewrite.entries import Entry, entry_values
from fxgrow.rewrite.lanes import NEW
from fxgrow.rewrite.overgrow import OverGrown, overgrow
from fxgrow.rewrite.overgrown_layer import OvergrownLayer
from fxgrow.rewrite.registration import register_as_used
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
    "entry_values",
    "insert_layers",
    "insertion_points",
    "overgrow",
    "register_as_used",
    "remove_layers",
]

# Old names, which go with the next version.
__getattr__ = renamed_attributes(
    __name__,
    {
        "HOLDER": "LAYER_NAMESPACE",
        "Depth": "DepthProposal",
        "Edge": "InsertionPoint",
        "GrownLayer": "OvergrownLayer",
        "erase": "remove_layers",
        "fitting_edges": "insertion_points",
        "with_layers": "insert_layers",
    },
)
