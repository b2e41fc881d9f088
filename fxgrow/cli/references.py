"""From the words that name a model on the command line to the model: ``resolve``."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from fxgrow.cli.reference import Reference, Shape, parse
from fxgrow.cli.schemes import (
    ResolvedModel,
    hugging_face_model,
    python_factory,
    spec_directory,
    timm_model,
    torchvision_model,
)
from fxgrow.errors import ModelError
from fxgrow.placing import recover

__all__ = ["SCHEMES", "Reference", "ResolvedModel", "Scheme", "resolve"]

Scheme = Callable[[Reference, int | None], ResolvedModel]

DIRECTORY = "directory"
PYTHON = "python"

SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {
        "torchvision": torchvision_model,
        "timm": timm_model,
        "hf": hugging_face_model,
        PYTHON: python_factory,
        DIRECTORY: spec_directory,
    }
)


def resolve(reference: str, *, classes: int | None = None, input_shape: Shape | None = None) -> ResolvedModel:
    """Build the model that ``reference`` names, with a tuple of example inputs of batch size 1.

    ``torchvision:NAME``, ``timm:NAME``, ``hf:NAME``, ``package.module:factory`` or a directory with a ``config.json``;
    options follow as ``?option=value&option=value``. ``classes`` and ``input_shape`` (without the batch axis) are
    those of the data; they count where the reference itself says nothing and the constructor takes them.

    Raises ``ModelError``: unknown name or option, missing package, malformed reference.
    """
    scheme, rest = split(reference)
    if scheme not in SCHEMES:
        raise ModelError(
            "unknown-scheme", f"{scheme} references such as {reference!r} cannot be read; use {', '.join(SCHEMES)}"
        )
    parsed = parse(scheme, rest)
    if input_shape is not None and not parsed.inputs:
        parsed = replace(parsed, inputs=(input_shape,))
    return SCHEMES[scheme](parsed, classes)


def split(reference: str) -> tuple[str, str]:
    """The scheme of a reference and the rest of it; directories and factories need not say theirs."""
    recover(Path(reference))
    if (Path(reference) / "config.json").is_file():
        return DIRECTORY, reference
    scheme, colon, rest = reference.partition(":")
    if not colon:
        raise ModelError(
            "bad-reference",
            f"{reference!r} is neither a directory with a config.json nor a reference; write torchvision:NAME, "
            "timm:NAME, hf:NAME or package.module:factory",
        )
    return (scheme, rest) if scheme in SCHEMES else (PYTHON, reference)
