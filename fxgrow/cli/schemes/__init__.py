"""One file per kind of model reference, from the parsed reference to a module.

No weights are ever downloaded. Constructors get the options that ``fxgrow.cli.options`` lists and
no others. Only ``python_factory`` runs code that belongs neither to fxgrow nor to an installed
library, and only if ``Trust`` lets it.

Initial weights come from torch's default generator, as for a constructor call written by hand:
seed it first.
"""

from fxgrow.cli.schemes.construction import ResolvedModel
from fxgrow.cli.schemes.directories import example_inputs_of, spec_directory
from fxgrow.cli.schemes.factories import check_factory, python_factory
from fxgrow.cli.schemes.hugging_face import hugging_face_model
from fxgrow.cli.schemes.timm_models import timm_model
from fxgrow.cli.schemes.torchvision_models import torchvision_model

__all__ = [
    "ResolvedModel",
    "check_factory",
    "example_inputs_of",
    "hugging_face_model",
    "python_factory",
    "spec_directory",
    "timm_model",
    "torchvision_model",
]
