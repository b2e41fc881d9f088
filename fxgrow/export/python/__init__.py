"""The architecture as plain Python."""

from fxgrow.export.python.source import NAME, source

__all__ = ["NAME", "source"]
