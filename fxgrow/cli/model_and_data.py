"""A model to work on, and the data that fits it."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from fxgrow.capture import move_to
from fxgrow.cli.reference_grammar import InputShape
from fxgrow.cli.resolve import read_reference, resolve
from fxgrow.cli.schemes import ResolvedModel
from fxgrow.cli.trust import TRUST_TYPED, Trust
from fxgrow.data import Splits
from fxgrow.documents import limits
from fxgrow.errors import ModelError
from fxgrow.growth import scale_widths
from fxgrow.lowering import lower
from fxgrow.modes import evaluation_mode
from fxgrow.randomness import seeded
from fxgrow.spec import GrowthStep
from fxgrow.training import DataChoice, logits

# What a model may raise when it does not fit its input; an internal error of torch is a RuntimeError.
_RUN_ERRORS = (
    RuntimeError,
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    ArithmeticError,
    AssertionError,
)
_COLOR_CHANNELS = 3


@dataclass(frozen=True, eq=False)
class ModelAndData:
    """A model, arguments to run it on, its name, and the growth steps that it has behind it."""

    model: nn.Module
    example_inputs: tuple[Any, ...]
    label: str
    history: tuple[GrowthStep, ...] = ()

    def to(self, device: torch.device) -> "ModelAndData":
        """The same on ``device``; the model itself moves."""
        return replace(
            self, model=self.model.to(device), example_inputs=move_to(self.example_inputs, device)
        )


def load_model(words: str, *, seed: int = 0) -> ModelAndData:
    """The model that a reference names, with its widths scaled and its weights drawn from ``seed``."""
    with seeded(seed):
        resolved = resolve(words)
    return _scaled(resolved, resolved.example_inputs, seed)


def load_model_and_data(
    words: str, data: DataChoice, *, seed: int = 0, trust: Trust = TRUST_TYPED
) -> tuple[ModelAndData, Splits]:
    """The model that a reference names, with as many classes as the data, and the data in the shape that it takes.

    A shape that the reference or the user states is taken; else the first that the model runs on, of the data set's
    size with the channels of the model's first convolution, and the model's own default. ``trust``: as ``resolve``
    takes it. Raises ``ModelError``.
    """
    read_reference(words, trust)  # what is wrong with it is said before any data is loaded
    splits = data.load(None, data.size, seed)
    with seeded(seed):
        resolved = resolve(words, classes=splits.classes, trust=trust)
    shape = _fitting(resolved, _candidates(resolved, splits, data.size))
    if shape != splits.shape:
        splits = data.load(shape[0], shape[1], seed)
    found = _scaled(resolved, (splits.train.images[:1].clone(),), seed)
    _check_classes(found, splits)
    return found, splits


def lower_model(found: ModelAndData) -> ModelAndData:
    """The same with its fused attention lowered, so that heads can grow."""
    return replace(found, model=lower(found.model))


def _scaled(resolved: ResolvedModel, example_inputs: tuple[Any, ...], seed: int) -> ModelAndData:
    if resolved.width is None:
        return ModelAndData(resolved.model, example_inputs, resolved.label, resolved.history)
    _check_scaled(resolved.model, resolved.width, resolved.label)
    model = scale_widths(resolved.model, example_inputs, resolved.width, seed)
    joint = "&" if "?" in resolved.label else "?"
    return ModelAndData(model, example_inputs, f"{resolved.label}{joint}width={resolved.width:g}")


def _check_scaled(model: nn.Module, factor: float, label: str) -> None:
    """Before it is built: the layers between two scaled widths grow with the square of the factor."""
    elements = sum(parameter.numel() for parameter in model.parameters())
    if elements * max(1.0, factor) ** 2 > limits.PARAMETERS:
        raise ModelError(
            "too-large",
            f"{label} with width={factor:g} may have more than {limits.PARAMETERS} parameters; choose a smaller factor",
        )


def _candidates(
    resolved: ResolvedModel, splits: Splits, size: int | None
) -> tuple[InputShape, ...]:
    """Shapes of one image to try, the best first."""
    own = _own_shape(resolved)
    if resolved.stated and size is None:
        return (own,)
    channels = own[0] if resolved.stated else _first_channels(resolved.model)
    side = splits.shape[1] if size is None else size
    guess = (channels, side, side)
    return (guess,) if size is not None else (guess, own)


def _own_shape(resolved: ResolvedModel) -> InputShape:
    shapes = [
        tuple(each.shape[1:]) if isinstance(each, torch.Tensor) else ()
        for each in resolved.example_inputs
    ]
    if len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][1] == shapes[0][2]:
        return shapes[0]
    raise ModelError(
        "no-images",
        f"{resolved.label} takes inputs of shape {', '.join(map(str, shapes)) or 'none'}, not one square image, so the "
        "data cannot be fed to it; name a model of images or say input=3x32x32",
    )


def _first_channels(model: nn.Module) -> int:
    return next(
        (part.in_channels for part in model.modules() if isinstance(part, nn.Conv2d)),
        _COLOR_CHANNELS,
    )


def _fitting(resolved: ResolvedModel, candidates: tuple[InputShape, ...]) -> InputShape:
    failures = []
    for shape in candidates:
        try:
            _run(resolved.model, (torch.zeros(1, *shape),))
        except _RUN_ERRORS as error:
            failures.append(" ".join(str(error).split()) or type(error).__name__)
        else:
            return shape
    tried = " or ".join("x".join(map(str, shape)) for shape in candidates)
    raise ModelError(
        "does-not-run",
        f"{resolved.label} does not run on images of {tried} ({failures[0]}); say input= or --size",
    )


@torch.no_grad()
def _run(model: nn.Module, arguments: tuple[Any, ...]) -> Any:
    with evaluation_mode(model):
        return model(*arguments)


def _check_classes(found: ModelAndData, splits: Splits) -> None:
    given = logits(_run(found.model, found.example_inputs)).shape[1]
    if given != splits.classes:
        raise ModelError(
            "classes",
            f"{found.label} tells {given} classes apart, but {splits.name} has {splits.classes}; build it with "
            f"{splits.classes} outputs or choose other data",
        )
