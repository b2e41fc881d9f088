"""A model of a run: module, graph and specification, and how well it does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from fxgrow.capture import capture
from fxgrow.coupling import couple
from fxgrow.spec import ArchitectureSpec, GrowthStep, describe
from fxgrow.training.evaluate import Evaluation


@dataclass(frozen=True, eq=False)
class Network:
    """A model, its graph (of the same modules) and its spec."""

    module: nn.Module
    graph_module: fx.GraphModule
    spec: ArchitectureSpec


@dataclass(frozen=True, eq=False)
class Evaluations:
    """The model of a run at one moment: its size, and its evaluation on both sets of images."""

    parameters: int
    train: Evaluation
    test: Evaluation


def capture_network(
    model: nn.Module, example_inputs: tuple[Any, ...], history: Sequence[GrowthStep] = ()
) -> Network:
    """Capture and describe a model; nothing is copied."""
    captured = capture(model, example_inputs)
    widths = couple(captured).widths
    spec = describe(captured.graph_module, example_inputs, widths=widths, history=history)
    return Network(captured.model, captured.graph_module, spec)
