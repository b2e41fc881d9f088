"""Typed, safe, diffable specifications of architectures: describe, save, load, compare. See ``docs/spec.md``."""

from fxgrow.spec.build import describe
from fxgrow.spec.changes import SpecDiff
from fxgrow.spec.cost import cost, multiply_adds
from fxgrow.spec.diff import diff
from fxgrow.spec.load import load, read_spec
from fxgrow.spec.models import ArchitectureSpec, Cost, GrowthStep, LayerInsertion, MethodRecord, WidthChange, WidthSpec
from fxgrow.spec.save import save, spec_of, write

__all__ = [
    "ArchitectureSpec",
    "Cost",
    "GrowthStep",
    "LayerInsertion",
    "MethodRecord",
    "SpecDiff",
    "WidthChange",
    "WidthSpec",
    "cost",
    "describe",
    "diff",
    "load",
    "multiply_adds",
    "read_spec",
    "save",
    "spec_of",
    "write",
]
