"""Rewriting fx graphs: the over-grown graph with all candidates in it."""

from fxgrow.rewrite.candidates import Candidates, Entry
from fxgrow.rewrite.grown import GrownLayer
from fxgrow.rewrite.overgrow import OverGrown, overgrow

__all__ = ["Candidates", "Entry", "GrownLayer", "OverGrown", "overgrow"]
