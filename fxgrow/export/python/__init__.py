"""The architecture as plain Python."""

from fxgrow.export.python.source import _CLASS_NAME, python_source

__all__ = ["_CLASS_NAME", "python_source"]
