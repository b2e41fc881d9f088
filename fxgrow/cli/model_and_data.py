"""The model of a command, and the data that fits it."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fxgrow.capture import move_to
from fxgrow.cli.reference_grammar import InputShape
from fxgrow.cli.resolve import read_reference, resolve
from fxgrow.cli.schemes import ResolvedModel
from fxgrow.cli.trust import Trust
from fxgrow.data import Splits
from fxgrow.errors import ModelError
from fxgrow.growth import scale_widths
from fxgrow.lowering import lower
from fxgrow.memory import require_memory
from fxgrow.modes import evaluation_mode
from fxgrow.randomness import seeded
from fxgrow.running import CALLED_CODE_ERRORS
from fxgrow.spec import GrowthStep
from fxgrow.training import DataChoice, logits

# For models without any convolution.
_COLOR_CHANNELS = 3


@dataclass(frozen=True, eq=False)
class ModelAndData:
    """A model and what is needed to run it.

    Args:
        model: the module.
        example_inputs: arguments of one call; of batch size 1 if they come from data.
        label: a reference that names the same model again.
        history: the growth steps that a loaded model has behind it.
    """

    model: nn.Module
    example_inputs: tuple[Any, ...]
    label: str
    history: tuple[GrowthStep, ...] = ()

    def to(self, device: torch.device) -> "ModelAndData":
        """The same on a device; the module itself moves, the tensors are copied."""
        inputs = move_to(self.example_inputs, device)
        return replace(self, model=self.model.to(device), example_inputs=inputs)


def load_model(reference: str, *, seed: int = 0) -> ModelAndData:
    """Build the model that a typed reference names, and scale its widths if it asks for that.

    Args:
        reference: as on the command line.
        seed: the initial weights are drawn from it.

    Returns:
        The model with its own example inputs.

    Raises:
        ModelError: if it cannot be built.
    """
    with seeded(seed):
        resolved = resolve(reference)
    return _scale(resolved, resolved.example_inputs, seed)


def load_model_and_data(
    reference: str, data: DataChoice, *, seed: int = 0, trust: Trust
) -> tuple[ModelAndData, Splits]:
    """Build a model with as many classes as the data, and load the data in the shape it takes.

    A shape that the reference or the user states is taken. Else the first one is taken that the
    model runs on: the size of the data set with the channels of the model's first convolution, then
    the model's own default.

    Args:
        reference: names the model.
        data: which images.
        seed: of the initial weights, and of data that is generated.
        trust: which modules may be imported for a factory. There is no default: the caller knows
            whether the user typed the reference or a file holds it.

    Returns:
        The model, with one training image as its example input, and the data.

    Raises:
        ModelError: if the model cannot be built or does not fit the data.
        DataError: if the data cannot be loaded.
    """
    # A wrong reference is reported before any data is loaded.
    read_reference(reference, trust)
    splits = data.load(None, data.size, seed)
    with seeded(seed):
        resolved = resolve(reference, classes=splits.classes, trust=trust)
    shape = _first_fitting_shape(resolved, _candidate_shapes(resolved, splits, data.size))
    if shape != splits.shape:
        channels, side = shape[:2]
        splits = data.load(channels, side, seed)
    example = splits.train.images[:1].clone()  # [1, channels, side, side]
    loaded = _scale(resolved, (example,), seed)
    _check_classes(loaded, splits)
    return loaded, splits


def lower_model(loaded: ModelAndData) -> ModelAndData:
    """The same with its attention in a form whose heads can grow.

    Raises:
        ModelError: ``nothing-to-lower`` if there is none.
    """
    lowered = lower(loaded.model, loaded.example_inputs)
    if [type(part) for part in lowered.modules()] == [type(p) for p in loaded.model.modules()]:
        raise ModelError(
            "nothing-to-lower",
            f"{loaded.label} has no fused attention that could be lowered, and no heads fixed by "
            "the code of a module, so that would change nothing; leave --lower (lower: true in a "
            "recipe) out",
        )
    return replace(loaded, model=lowered)


def _scale(resolved: ResolvedModel, example_inputs: tuple[Any, ...], seed: int) -> ModelAndData:
    if resolved.width is None:
        return ModelAndData(resolved.model, example_inputs, resolved.label, resolved.history)
    _check_scaled_size(resolved.model, resolved.width, resolved.label)
    model = scale_widths(resolved.model, example_inputs, resolved.width, seed)
    separator = "&" if "?" in resolved.label else "?"
    label = f"{resolved.label}{separator}width={resolved.width:g}"
    # Without the history, which does not lead to the scaled architecture.
    return ModelAndData(model, example_inputs, label)


def _check_scaled_size(model: nn.Module, factor: float, label: str) -> None:
    """Check the size before the scaled model is built."""
    bytes_now = 0
    for parameter in model.parameters():
        bytes_now += parameter.numel() * parameter.element_size()
    # A layer between two scaled widths grows with the square of the factor; the old model is there
    # too, and each map from new to old neurons.
    needed = bytes_now * (1 + max(1.0, factor) ** 2)
    what = f"the parameters of {label} with width={factor:g}"
    require_memory(round(needed), what, "choose a smaller factor", ModelError)


def _candidate_shapes(
    resolved: ResolvedModel, splits: Splits, size: int | None
) -> tuple[InputShape, ...]:
    """Shapes of one image ``(channels, side, side)`` to try, the best first."""
    own_shape = _own_image_shape(resolved)
    if resolved.stated and size is None:
        return (own_shape,)
    channels = own_shape[0] if resolved.stated else _first_channels(resolved.model)
    if size is not None:
        return ((channels, size, size),)
    data_side = splits.shape[1]
    return (channels, data_side, data_side), own_shape


def _own_image_shape(resolved: ResolvedModel) -> InputShape:
    """The shape of the model's own example input, without the batch axis."""
    shapes: list[InputShape] = []
    for value in resolved.example_inputs:
        shapes.append(tuple(value.shape[1:]) if isinstance(value, Tensor) else ())
    if len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][1] == shapes[0][2]:
        return shapes[0]
    description = ", ".join(map(str, shapes)) or "none"
    raise ModelError(
        "no-images",
        f"{resolved.label} takes inputs of shape {description}, not one square image, so the data "
        "cannot be fed to it; name a model of images or say input=3x32x32",
    )


def _first_channels(model: nn.Module) -> int:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    return _COLOR_CHANNELS


def _first_fitting_shape(resolved: ResolvedModel, candidates: tuple[InputShape, ...]) -> InputShape:
    failures = []
    for shape in candidates:
        try:
            _run_once(resolved.model, (torch.zeros(1, *shape),))
        except CALLED_CODE_ERRORS as error:
            failures.append(" ".join(str(error).split()) or type(error).__name__)
        else:
            return shape
    tried = " or ".join("x".join(map(str, shape)) for shape in candidates)
    # The first candidate is the best guess, so its failure explains most.
    raise ModelError(
        "does-not-run",
        f"{resolved.label} does not run on images of {tried} ({failures[0]}); say input= or --size",
    )


@torch.no_grad()
def _run_once(model: nn.Module, inputs: tuple[Any, ...]) -> Any:
    with evaluation_mode(model):
        return model(*inputs)


def _check_classes(loaded: ModelAndData, splits: Splits) -> None:
    scores = logits(_run_once(loaded.model, loaded.example_inputs))  # [1, classes]
    classes = scores.shape[1]
    if classes != splits.classes:
        raise ModelError(
            "classes",
            f"{loaded.label} tells {classes} classes apart, but {splits.name} has {splits.classes};"
            f" build it with {splits.classes} outputs or choose other data",
        )
