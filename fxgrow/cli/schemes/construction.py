"""What all kinds of references do: check options, build within limits, add example inputs."""

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from fxgrow.cli.options import OptionKind, wrong_value
from fxgrow.cli.reference_grammar import InputShape, Reference
from fxgrow.documents import limits
from fxgrow.errors import ModelError
from fxgrow.memory import bounded_model
from fxgrow.spec import GrowthStep

IMAGE: InputShape = (3, 224, 224)
"""What a model gets of which nothing else is known."""

# What a library's constructor may raise for options that do not go together.
BUILD_ERRORS = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    MemoryError,
    ImportError,
)


@dataclass(frozen=True, eq=False)
class ResolvedModel:
    """A model and a tuple of arguments to run it on.

    Args:
        model: the module, as its constructor made it.
        example_inputs: arguments of one call.
        label: a reference that names the same model again.
        width: the factor by which the reference asks all widths to be scaled (not done yet); None:
            it does not.
        stated: whether the shapes of the example inputs are stated by the reference, the factory or
            the directory; else they are a guess.
        history: the growth steps that a loaded model has behind it.
    """

    model: nn.Module
    example_inputs: tuple[Any, ...]
    label: str
    width: float | None = None
    stated: bool = False
    history: tuple[GrowthStep, ...] = ()


def explicit_options(signature: inspect.Signature) -> frozenset[str]:
    """The parameters of a signature that have a name of their own."""
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return frozenset(
        name for name, parameter in signature.parameters.items() if parameter.kind not in variadic
    )


def check_known(name: str, names: Iterable[str], where: str) -> None:
    """Check that a library lists a model.

    Args:
        name: of the model.
        names: all that there are.
        where: what lists them.

    Raises:
        ModelError: ``unknown-model``, with the closest names.
    """
    known = list(names)
    if name in known:
        return
    closest = ", ".join(get_close_matches(name, known, n=3, cutoff=0.0)) or "nothing"
    raise ModelError(
        "unknown-model", f"{where} has no model {name!r}; the closest names are {closest}"
    )


def with_classes(reference: Reference, classes: int | None, option: str | None) -> Reference:
    """Set an option to the number of classes, unless the reference states it already.

    ``option`` is None if the constructor has no such option.
    """
    if classes is None or option is None or option in reference.options:
        return reference
    return replace(reference, options={**reference.options, option: classes})


def check_option_values(reference: Reference, table: Mapping[str, OptionKind]) -> None:
    """Check, before anything is imported or built, that the options fit a table."""
    for option, value in reference.options.items():
        reason = wrong_value(table, option, value)
        if reason:
            closest = get_close_matches(option, table, n=5, cutoff=0.0)
            raise wrong_options(reference, reason, closest)


def check_options(reference: Reference, accepted: frozenset[str]) -> None:
    """Check that a constructor takes the options of a reference.

    Args:
        reference: the parsed reference.
        accepted: the names of the options that it takes.

    Raises:
        ModelError: ``model-options``.
    """
    for option in reference.options:
        if option not in accepted:
            raise wrong_options(reference, f"it has no option {option!r}", accepted)


def construct(
    constructor: Callable[..., Any],
    reference: Reference,
    options: Mapping[str, Any],
    accepted: frozenset[str],
) -> Any:
    """Call a constructor of a library, within the limits of memory.

    Args:
        constructor: of a model or of its configuration.
        reference: the parsed reference, for messages.
        options: what the constructor gets.
        accepted: the names of the options that it takes, for messages.

    Returns:
        What it returns.

    Raises:
        ModelError: ``model-options``, whatever the constructor raised; ``too-large``.
    """
    try:
        with warnings.catch_warnings():
            # GoogLeNet and Inception announce a change of their initial weights; nobody here can
            # act on it.
            warnings.filterwarnings("ignore", "The default weight initialization", FutureWarning)
            _check_size(constructor, reference, options)
            with bounded_model(reference.label, limits.ENTRIES):
                return constructor(**options)
    except BUILD_ERRORS as error:
        raise wrong_options(reference, str(error) or type(error).__name__, accepted) from error


def _check_size(
    constructor: Callable[..., Any], reference: Reference, options: Mapping[str, Any]
) -> None:
    """Build on the meta device first, to count without spending memory or time on weights."""
    try:
        # Initializers draw random numbers on the meta device too; the real weights must not depend
        # on that.
        with (
            torch.random.fork_rng(devices=[]),
            torch.device("meta"),
            bounded_model(reference.label, limits.ENTRIES),
        ):
            constructor(**options)
    except NotImplementedError:
        # The constructor reads a value from a tensor (RegNet), and the meta device has none. Such a
        # model is only counted while it is built in earnest.
        return


def wrong_options(reference: Reference, reason: str, accepted: Iterable[str]) -> ModelError:
    """The refusal of a reference's options.

    Args:
        reference: the parsed reference.
        reason: what is wrong with them.
        accepted: the names of the options that would be taken.

    Returns:
        ``model-options``.
    """
    takes = ", ".join(sorted(accepted)) or "no options"
    reason = " ".join(reason.split())[: limits.MESSAGE]
    return ModelError(
        "model-options",
        f"{reference.label[: limits.MESSAGE]} cannot be built: {reason}; it takes {takes}",
    )


def with_inputs(
    model: nn.Module, reference: Reference, shapes: tuple[InputShape, ...]
) -> ResolvedModel:
    """The model with random example inputs of the reference's shapes, else of ``shapes``."""
    generator = torch.Generator().manual_seed(0)
    inputs = []
    for shape in reference.inputs or shapes:
        inputs.append(torch.randn(1, *shape, generator=generator))
    stated = bool(reference.inputs)
    return ResolvedModel(model, tuple(inputs), reference.label, reference.width, stated=stated)
