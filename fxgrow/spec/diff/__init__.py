"""What differs between two specifications: aligned, classified, and attributed to growth."""

from fxgrow.spec.diff.compare import diff
from fxgrow.spec.diff.records import SpecDiff

__all__ = ["SpecDiff", "diff"]
