"""Rewriting fx graphs: the over-grown graph with all candidates in it."""

from fxgrow.rewrite.candidates import Candidates, Entry
from fxgrow.rewrite.grown import GrownLayer
from fxgrow.rewrite.layers import HOLDER, Depth, Edge, IdentityLayer, LayerForm, erase, fitting_edges, with_layers
from fxgrow.rewrite.overgrow import OverGrown, overgrow

__all__ = [
    "HOLDER",
    "Candidates",
    "Depth",
    "Edge",
    "Entry",
    "GrownLayer",
    "IdentityLayer",
    "LayerForm",
    "OverGrown",
    "erase",
    "fitting_edges",
    "overgrow",
    "with_layers",
]
