"""A model in other forms: ONNX, torch.export, a hub directory, plain Python, pictures.

What each format holds and how it is checked: ``docs/exports.md``.
"""

from fxgrow.deprecation import renamed_attributes
from fxgrow.export.export import FORMATS, Exported, export
from fxgrow.export.format import Check, Format, Options
from fxgrow.export.source_model import ExportableModel, HasSpec

__all__ = [
    "FORMATS",
    "Check",
    "ExportableModel",
    "Exported",
    "Format",
    "HasSpec",
    "Options",
    "export",
]

# Old names, which go with the next version.
__getattr__ = renamed_attributes(
    __name__,
    {
        "Described": "HasSpec",
        "Model": "ExportableModel",
    },
)
