"""What a capture returns: the graph, and for every part of the model how it was captured."""

from collections.abc import Iterable, Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from torch import fx, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from fxgrow.user_lines import frames_of, user_line


class How(StrEnum):
    """How a part of the model was captured."""

    TRACED = "traced"
    EXPORTED = "exported"
    OPAQUE = "opaque"


@dataclass(frozen=True)
class PartReport:
    """One part of the model.

    Args:
        module: its path ("" is the root).
        how: how it was captured.
        why: why not better.
    """

    module: str
    how: How
    why: str = ""


@dataclass(frozen=True)
class Captured:
    """A graph beside the model that it was taken from, whose own parameters it holds.

    Args:
        model: the model.
        graph_module: the graph. Its parameters have the names that they have in ``model``, except
            where ``how`` is OPAQUE: there the graph is one call of the model, which it holds as
            ``model``.
        example_inputs: the positional arguments that it was captured with.
        report: how each part was captured, the root first.

    Example:
        >>> captured = fxgrow.capture(model, (images,))
        >>> print(captured.graph_module.graph)
    """

    model: nn.Module
    graph_module: fx.GraphModule
    example_inputs: tuple[Any, ...]
    report: tuple[PartReport, ...]

    @property
    def how(self) -> How:
        """How the root was captured."""
        return self.report[0].how

    @property
    def traced_share(self) -> float:
        """Share of the model's parameters where the graph has nodes, between 0 and 1."""
        if self.how is How.OPAQUE:
            return 0.0
        opaque = [part.module for part in self.report if part.how is How.OPAQUE]
        return traced_share(self.model, opaque)


def traced_share(model: nn.Module, opaque: Iterable[str]) -> float:
    """Share of the parameters outside the opaque parts.

    Args:
        model: the model.
        opaque: the paths of its opaque parts.

    Returns:
        A number between 0 and 1; 1 for a model without parameters.
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    if not total:
        return 1.0
    # By id: a parameter may be in several parts.
    hidden = {}
    for path in opaque:
        for parameter in model.get_submodule(path).parameters():
            hidden[id(parameter)] = parameter.numel()
    return 1 - sum(hidden.values()) / total


def why_untraced(error: BaseException, packages: Set[str]) -> str:
    """Why a part could not be traced, with the line of the model's own code to blame.

    Args:
        error: what the part raised on symbolic values.
        packages: the installed packages that belong to the model.

    Returns:
        A clause, such as ``its code depends on the values of tensors (model.py:12)``.
    """
    reason = first_line(error)
    if isinstance(error, (DataDependentOutputException, DynamicOutputShapeException)):
        reason = "its code depends on the values of tensors"
    line = user_line(frames_of(error), packages)
    return f"{reason} ({line})" if line else reason


def first_line(error: BaseException) -> str:
    """The first line of an error's message that is not blank, else the name of its class."""
    for line in str(error).splitlines():
        if line.strip():
            return line.strip()
    return type(error).__name__
