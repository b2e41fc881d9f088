"""The architecture as plain Python."""

from fxgrow.export.python.source import NETWORK_CLASS, python_source

__all__ = ["NETWORK_CLASS", "python_source"]
