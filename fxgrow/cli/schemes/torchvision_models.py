"""``torchvision:NAME``: a model that torchvision lists, with the input that it is made for."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import nn

from fxgrow.cli import options as tables
from fxgrow.cli.reference_grammar import InputShape, Reference
from fxgrow.cli.schemes.construction import (
    IMAGE,
    ResolvedModel,
    check_known,
    check_option_values,
    check_options,
    construct,
    explicit_options,
    with_classes,
    with_inputs,
)
from fxgrow.cli.trust import Trust
from fxgrow.errors import ModelError
from fxgrow.optional import require

VIDEO: InputShape = (3, 16, 224, 224)
# Shapes of the inputs of torchvision's models, by the module that defines the model; all others
# take one IMAGE.
TORCHVISION_INPUTS: Mapping[str, tuple[InputShape, ...]] = MappingProxyType(
    {
        "torchvision.models.inception": ((3, 299, 299),),
        "torchvision.models.quantization.inception": ((3, 299, 299),),
        "torchvision.models.optical_flow.raft": ((3, 128, 128), (3, 128, 128)),
        "torchvision.models.video.mvit": (VIDEO,),
        "torchvision.models.video.resnet": (VIDEO,),
        "torchvision.models.video.s3d": (VIDEO,),
        "torchvision.models.video.swin_transformer": (VIDEO,),
    }
)
# Options that torchvision's functions take out of **kwargs, so that no signature shows them.
TORCHVISION_HIDDEN: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "torchvision.models.efficientnet": frozenset({"dropout"}),
        "torchvision.models.maxvit": frozenset({"input_size"}),
        "torchvision.models.mobilenetv3": frozenset({"dilated", "reduced_tail", "width_mult"}),
        "torchvision.models.vision_transformer": frozenset({"image_size"}),
    }
)
# Options that fxgrow always sets itself, because other values would download weights.
TORCHVISION_WEIGHTS = ("weights", "weights_backbone")


def torchvision_model(reference: Reference, classes: int | None, trust: Trust) -> ResolvedModel:
    """Build ``torchvision:NAME?option=value``: any model that ``torchvision.models`` lists.

    Args:
        reference: the parsed reference.
        classes: number of classes of the data, if any.
        trust: not needed, no foreign code is run.

    Returns:
        The model with example inputs.

    Raises:
        ModelError: if there is no such model or it cannot be built with these options.
    """
    del trust
    models = require("torchvision.models", extra="vision", error=ModelError)
    check_known(reference.name, models.list_models(), "torchvision")
    builder = models.get_model_builder(reference.name)
    accepted = _torchvision_options(builder)
    reference = with_classes(
        reference, classes, "num_classes" if "num_classes" in accepted else None
    )
    check_options(reference, accepted)
    check_option_values(reference, tables.TORCHVISION_OPTIONS)
    options = {**reference.options, **_without_weights(builder)}
    model = construct(builder, reference, options, accepted)
    return with_inputs(model, reference, _torchvision_shapes(model, builder))


def _torchvision_options(builder: Callable[..., nn.Module]) -> frozenset[str]:
    """Options of the function that builds a model, and of the model's class."""
    signature = inspect.signature(builder)
    options = set(explicit_options(signature))
    options |= TORCHVISION_HIDDEN.get(builder.__module__, frozenset())
    model_class = signature.return_annotation
    # The last class of the order is ``object``.
    for base in model_class.__mro__[:-1]:
        options |= _optional_options(base)
    return frozenset(options) & frozenset(tables.TORCHVISION_OPTIONS)


def _optional_options(model_class: type) -> frozenset[str]:
    """Options of a class with a default; the others are set by the function that builds it."""
    options = set()
    for name, parameter in inspect.signature(model_class).parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            options.add(name)
    return frozenset(options)


def _without_weights(builder: Callable[..., nn.Module]) -> dict[str, None]:
    """The options of a builder that would download weights, set to None."""
    parameters = inspect.signature(builder).parameters
    return {name: None for name in TORCHVISION_WEIGHTS if name in parameters}


def _torchvision_shapes(
    model: nn.Module, builder: Callable[..., nn.Module]
) -> tuple[InputShape, ...]:
    # Vision transformers know the side of their images.
    side = getattr(model, "image_size", None)
    if isinstance(side, int):
        return ((3, side, side),)
    return TORCHVISION_INPUTS.get(builder.__module__, (IMAGE,))
