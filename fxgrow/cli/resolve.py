"""From the words that name a model on the command line to the model: ``resolve``."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from fxgrow.cli.reference_grammar import InputShape, Reference, parse_reference
from fxgrow.cli.schemes import (
    ResolvedModel,
    check_factory,
    hugging_face_model,
    python_factory,
    spec_directory,
    timm_model,
    torchvision_model,
)
from fxgrow.cli.trust import TRUST_TYPED, Trust
from fxgrow.documents import limits, recover_directory
from fxgrow.errors import ModelError

__all__ = ["SCHEMES", "Reference", "ResolvedModel", "Scheme", "read_reference", "resolve"]

Scheme = Callable[[Reference, int | None, Trust], ResolvedModel]

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


def resolve(
    reference: str,
    *,
    classes: int | None = None,
    input_shape: InputShape | None = None,
    trust: Trust = TRUST_TYPED,
) -> ResolvedModel:
    """Build the model that ``reference`` names, with a tuple of example inputs of batch size 1.

    ``torchvision:NAME``, ``timm:NAME``, ``hf:NAME``, ``package.module:factory`` or a directory with a ``config.json``;
    options follow as ``?option=value&option=value``. ``classes`` and ``input_shape`` (without the batch axis) are
    those of the data; they count where the reference itself says nothing and the constructor takes them. ``trust``:
    which modules may be imported for a factory; by default any, for the user wrote the reference.

    Raises ``ModelError``: unknown name or option, missing package, malformed reference, a factory without trust.
    """
    parsed = read_reference(reference, trust)
    if input_shape is not None and not parsed.inputs:
        parsed = replace(parsed, inputs=(input_shape,))
    return SCHEMES[parsed.scheme](parsed, classes, trust)


def read_reference(reference: str, trust: Trust) -> Reference:
    """The parsed reference, if it may be followed; nothing is imported, opened or built.

    Raises ``ModelError``: malformed (``bad-reference``, ``unknown-scheme``), or a factory without trust.
    """
    if len(reference) > limits.REFERENCE:
        raise ModelError(
            "bad-reference",
            f"the reference {reference[:40]!r}... has more than {limits.REFERENCE} characters; shorten it",
        )
    if not trust.typed:
        _check_local(reference)
    scheme, rest = split_reference(reference)
    if scheme not in SCHEMES:
        raise ModelError(
            "unknown-scheme",
            f"{scheme} references such as {reference!r} cannot be read; use {', '.join(SCHEMES)}",
        )
    parsed = parse_reference(scheme, rest)
    if scheme == PYTHON:
        check_factory(parsed, trust)
    return parsed


def _check_local(reference: str) -> None:
    """A file must not make this machine ask another one for a directory, as some systems do for such paths."""
    path = reference.removeprefix(f"{DIRECTORY}:").replace("\\", "/")
    if path.startswith("//"):
        raise ModelError(
            "bad-reference",
            f"{reference[: limits.MESSAGE]!r} may lie on another machine; copy the directory here and name the copy",
        )


def split_reference(reference: str) -> tuple[str, str]:
    """The scheme of a reference and the rest of it; directories and factories need not say theirs."""
    if _holds_config(reference):
        return DIRECTORY, reference
    scheme, colon, rest = reference.partition(":")
    if not colon:
        raise ModelError(
            "bad-reference",
            f"{reference[: limits.MESSAGE]!r} is neither a directory with a config.json nor a reference; write "
            "torchvision:NAME, timm:NAME, hf:NAME or package.module:factory",
        )
    return (scheme, rest) if scheme in SCHEMES else (PYTHON, reference)


def _holds_config(reference: str) -> bool:
    try:
        recover_directory(Path(reference))
        return (Path(reference) / "config.json").is_file()
    except (OSError, ValueError):  # too long, or no path at all
        return False
