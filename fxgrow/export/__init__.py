"""A model in other forms: ONNX, torch.export, a hub directory, plain Python, pictures. See ``docs/exports.md``."""

from fxgrow.export.export import FORMATS, Exported, export
from fxgrow.export.format import Check, Format, Options
from fxgrow.export.subject import Described, Model

__all__ = ["FORMATS", "Check", "Described", "Exported", "Format", "Model", "Options", "export"]
