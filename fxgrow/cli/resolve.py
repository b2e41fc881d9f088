"""``resolve``: from the reference that names a model on the command line to the model."""

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

# A function from a reference, the number of classes of the data (None: no data) and the modules
# that may be imported, to the model.
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
    """Build the model that a reference names, with example inputs.

    Args:
        reference: ``torchvision:NAME``, ``timm:NAME``, ``hf:NAME``, ``package.module:factory`` or a
            directory with a ``config.json``; options follow as ``?option=value&option=value``.
        classes: number of classes of the data; it counts where the reference does not state one and
            the constructor takes one.
        input_shape: shape of the data without the batch axis; it counts where the reference does
            not state one.
        trust: which modules may be imported for a factory; by default any, for references that the
            user typed.

    Returns:
        The model and a tuple of example inputs of batch size 1.

    Raises:
        ModelError: unknown name or option, missing package, malformed reference, or a factory that
            is not trusted.
    """
    parsed = read_reference(reference, trust)
    if input_shape is not None and not parsed.inputs:
        parsed = replace(parsed, inputs=(input_shape,))
    return SCHEMES[parsed.scheme](parsed, classes, trust)


def read_reference(reference: str, trust: Trust) -> Reference:
    """Parse a reference and check that it may be followed; nothing is imported, opened or built.

    Args:
        reference: as for ``resolve``.
        trust: as for ``resolve``.

    Returns:
        The parsed reference.

    Raises:
        ModelError: ``bad-reference`` or ``unknown-scheme`` if it is malformed,
            ``untrusted-factory`` if it names a factory that is not trusted.
    """
    if len(reference) > limits.REFERENCE:
        raise ModelError(
            "bad-reference",
            f"the reference {reference[:40]!r}... has more than {limits.REFERENCE} characters; "
            "shorten it",
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
    """Check that a directory in a file lies on this machine."""
    # Some systems ask the machine ``host`` for a path such as //host/share, and log in there.
    path = reference.removeprefix(f"{DIRECTORY}:").replace("\\", "/")
    if path.startswith("//"):
        raise ModelError(
            "bad-reference",
            f"{reference[: limits.MESSAGE]!r} may lie on another machine; copy the directory here "
            "and name the copy",
        )


def split_reference(reference: str) -> tuple[str, str]:
    """Split a reference into its scheme and the rest.

    The scheme may be left out for directories and factories.

    Args:
        reference: as for ``resolve``.

    Returns:
        A scheme of ``SCHEMES``, and the rest.

    Raises:
        ModelError: ``bad-reference`` if it is neither a directory nor has a colon.
    """
    if _holds_config(reference):
        return DIRECTORY, reference
    scheme, colon, rest = reference.partition(":")
    if not colon:
        raise ModelError(
            "bad-reference",
            f"{reference[: limits.MESSAGE]!r} is neither a directory with a config.json nor a "
            "reference; write torchvision:NAME, timm:NAME, hf:NAME or package.module:factory",
        )
    # ``package.module:factory`` has a colon, too, but no scheme before it.
    return (scheme, rest) if scheme in SCHEMES else (PYTHON, reference)


def _holds_config(reference: str) -> bool:
    directory = Path(reference)
    try:
        # If a process was killed while it replaced the directory, its content lies beside it.
        recover_directory(directory)
        return (directory / "config.json").is_file()
    except (OSError, ValueError):  # too long, or no path at all
        return False
