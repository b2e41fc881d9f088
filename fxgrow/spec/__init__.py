"""Typed, safe, diffable specifications of architectures: describe, save, load, compare. See ``docs/spec.md``."""

from fxgrow.spec.arguments import Frozen
from fxgrow.spec.build import describe
from fxgrow.spec.canonical import canonical_json, digest
from fxgrow.spec.changes import SpecDiff
from fxgrow.spec.cost import cost, multiply_adds
from fxgrow.spec.diff import diff
from fxgrow.spec.documents import Document, as_spec_error
from fxgrow.spec.files import read_text
from fxgrow.spec.load import load, read_spec
from fxgrow.spec.models import ArchitectureSpec, Cost, GrowthStep, LayerInsertion, MethodRecord, WidthChange, WidthSpec
from fxgrow.spec.save import save, spec_of, write
from fxgrow.spec.text import parse_yaml, yaml_text

__all__ = [
    "ArchitectureSpec",
    "Cost",
    "Document",
    "Frozen",
    "GrowthStep",
    "LayerInsertion",
    "MethodRecord",
    "SpecDiff",
    "WidthChange",
    "WidthSpec",
    "as_spec_error",
    "canonical_json",
    "cost",
    "describe",
    "diff",
    "digest",
    "load",
    "multiply_adds",
    "parse_yaml",
    "read_spec",
    "read_text",
    "save",
    "spec_of",
    "write",
    "yaml_text",
]
