"""What a capture gives back: the graph, and for every part of the model how it was captured."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from torch import fx, nn


class How(StrEnum):
    """How a part of the model was captured."""

    TRACED = "traced"
    EXPORTED = "exported"
    OPAQUE = "opaque"


@dataclass(frozen=True)
class PartReport:
    """One part of the model: its path ("" is the whole), how it was captured, and why not better."""

    module: str
    how: How
    why: str = ""


@dataclass(frozen=True)
class Captured:
    """A graph beside the model that it was taken from, whose own parameters it holds.

    Parameters of ``graph_module`` have the names that they have in ``model``, except where ``how`` is OPAQUE: there the
    graph is one call of the whole model, which it holds as ``model``.
    """

    model: nn.Module
    graph_module: fx.GraphModule
    example_inputs: tuple[Any, ...]
    report: tuple[PartReport, ...]

    @property
    def how(self) -> How:
        """How the whole was captured."""
        return self.report[0].how

    @property
    def traced_share(self) -> float:
        """Share of the model's parameters that lie where the graph has nodes, between 0 and 1."""
        if self.how is How.OPAQUE:
            return 0.0
        return traced_share(
            self.model, (part.module for part in self.report if part.how is How.OPAQUE)
        )


def traced_share(model: nn.Module, opaque: Iterable[str]) -> float:
    """Share of the parameters outside the opaque parts; 1 for a model without parameters."""
    hidden = {id(p): p.numel() for path in opaque for p in model.get_submodule(path).parameters()}
    total = sum(p.numel() for p in model.parameters())
    return 1 - sum(hidden.values()) / total if total else 1.0


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (
        next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        or type(error).__name__
    )
