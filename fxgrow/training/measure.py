"""What a run measures for its trigger: validation images, spectra of activations, promises.

Multiply-adds of training count a backward pass as two forward passes.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from fxgrow.capture import Interpreter, capture
from fxgrow.coupling import Coupling, couple
from fxgrow.data import DataSet, Splits
from fxgrow.errors import TrainingError
from fxgrow.growth import GrowthReport, Method, predicts_gain
from fxgrow.modes import evaluation_mode
from fxgrow.ranks import Ranks
from fxgrow.training.history import Measurement, Promise, Spectrum
from fxgrow.training.triggers import Trigger

PASSES = 3
"""A training step in forward passes."""

RANK_IMAGES = 256
"""Training images whose activations are looked at."""


def set_aside(data: Splits, share: float, seed: int) -> tuple[Splits, DataSet | None]:
    """Set a share of the training images aside.

    Args:
        data: the data; it stays as it is.
        share: of the training images, drawn at random; at least one image if it is not 0.
        seed: draws them.

    Returns:
        The data with the other training images in their order, and those that are set aside (None
        if the share is 0).
    """
    if not share:  # the same object: nothing is copied where nothing is set aside
        return data, None
    count = max(1, round(share * len(data.train)))
    # A generator of its own, so that the order of training is what it is without validation.
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(data.train), generator=generator)
    chosen, rest = order[:count].sort().values, order[count:].sort().values
    validation = data.train.pick(chosen.tolist())
    return replace(data, train=data.train.pick(rest.tolist())), validation


def training_multiply_adds(per_pass: int, examples: int, images: int) -> float:
    """The multiply-adds of training on some images.

    Args:
        per_pass: of one forward pass of the example inputs.
        examples: how many examples these are.
        images: how many images are trained on.
    """
    return PASSES * per_pass / examples * images


def promise_of(report: GrowthReport, examples: int, batch_size: int) -> Promise:
    """What a growth step promised, and the multiply-adds of its search.

    Each step and each batch that is scored counts as one training step over the graph with all
    candidates. Methods that score in several passes cost more, so this is a lower bound.

    Args:
        report: of the growth step.
        examples: how many examples the example inputs are.
        batch_size: examples in each growth batch.

    Raises:
        TrainingError: ``no-promise``, if the cost of the search is not known.
    """
    if report.multiply_adds_overgrown is None or report.batches is None:
        raise without_costs(report.costs_unknown)
    passes = report.batches.steps + report.batches.scored
    cost = training_multiply_adds(report.multiply_adds_overgrown, examples, passes * batch_size)
    # Histories of old versions have layers without a score; a report of now has none such.
    gain = sum((layer.score or 0.0 for layer in report.layers), start=0.0)
    for width in report.widths:
        gain += sum(width.scores)
    for blocks in report.blocks:
        gain += sum(blocks.scores)
    return Promise(gain, cost)


def without_costs(reason: str) -> TrainingError:
    """The error of a trigger that compares costs, where those of a search are not known."""
    return TrainingError(
        "no-promise",
        f"what a search costs is not known ({reason}), so it cannot be compared with training; "
        "choose another trigger",
    )


def require_gains_of(method: Method, trigger: Trigger) -> None:
    """Check that the scores of a method are gains, if the trigger compares them with training.

    Raises:
        TrainingError: ``no-promise``: they are in other units than the loss.
    """
    if "gains" in trigger.needs and not predicts_gain(method):
        raise TrainingError(
            "no-promise",
            f"{type(trigger).__name__} compares scores with the loss, and those of "
            f"{type(method).__name__} are not in its units; choose Firefly, Splitting or another "
            "trigger",
        )


def activation_spectra(
    model: nn.Module, example_inputs: tuple[Any, ...], inputs: tuple[Any, ...]
) -> tuple[Spectrum, ...]:
    """The singular values of the activations of every growable width.

    Of a width with activations H, [all positions, neurons], these are the singular values
    of H / sqrt(positions), after the last operation before a layer reads the width.

    Args:
        model: is run once on the inputs, in evaluation mode.
        example_inputs: for its capture.
        inputs: positional arguments that it is run on.

    Returns:
        One spectrum per width whose neurons lie along one axis of some value.

    Raises:
        TrainingError: ``no-activations``, if there is no such width.
    """
    with evaluation_mode(model):
        captured = capture(model, example_inputs)
        coupling = couple(captured)
        wanted = _last_values(captured.graph_module, coupling)
        recorder = _Recorder(captured.graph_module, wanted, coupling)
        with torch.no_grad():
            recorder.run(*inputs)
    if not recorder.spectra:
        raise TrainingError(
            "no-activations",
            "no width has activations along one axis, so their rank cannot trigger growth; choose "
            "another trigger",
        )
    return tuple(recorder.spectra)


def _last_values(graph_module: fx.GraphModule, coupling: Coupling) -> Mapping[str, int]:
    """The node that holds a width as its readers see it -> the number of the width."""
    last: dict[int, str] = {}
    for node in graph_module.graph.nodes:
        shape = coupling.shapes.get(node.name)
        carried = coupling.carries.get(node.name, frozenset())
        if shape is None or len(carried) != 1 or len(shape.dims) != 1:
            continue
        (number,), (dim,) = carried, shape.dims
        width = coupling.widths[number]
        # In a flattened map a neuron is several entries, so the value before counts.
        if width.growable and shape.size[dim] == width.size:
            last[number] = node.name
    return {name: number for number, name in last.items()}


class _Recorder(Interpreter):
    """Runs a graph and keeps the spectra of some values, not the values themselves."""

    def __init__(
        self, graph_module: fx.GraphModule, wanted: Mapping[str, int], coupling: Coupling
    ) -> None:
        super().__init__(graph_module)
        self.wanted, self.coupling = wanted, coupling
        self.spectra: list[Spectrum] = []

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self.wanted:
            (dim,) = self.coupling.shapes[n.name].dims
            name = self.coupling.widths[self.wanted[n.name]].name
            self.spectra.append(Spectrum(name, singular_values(value, dim)))
        return value


def singular_values(value: Tensor, dim: int) -> tuple[float, ...]:
    """The singular values of activations, divided by the root of the number of positions.

    They are the roots of the eigenvalues of H^T H / positions, a matrix of neurons by neurons.

    Args:
        value: the activations.
        dim: the axis of the neurons.

    Returns:
        min(positions, neurons) values, the largest first.
    """
    neurons = value.shape[dim]
    activations = value.detach().movedim(dim, -1).reshape(-1, neurons).double()
    positions = len(activations)
    # In double precision: squares lose half of the digits, and 1 % of the largest must be seen.
    moments = activations.mT @ activations / positions
    # Ascending; of fewer positions than neurons the other eigenvalues are 0 by construction.
    eigenvalues = torch.linalg.eigvalsh(moments).flip(0)[: min(positions, neurons)]
    return tuple(math.sqrt(max(eigenvalue, 0.0)) for eigenvalue in eigenvalues.tolist())


def mean_over_processes(measured: Measurement) -> Measurement:
    """What was measured, in the mean over the processes of a group; alone it is what it was.

    Args:
        measured: by this process, on its own examples; all have measured the same things.
    """
    ranks = Ranks.of_process()
    if ranks.count == 1:
        return measured
    values: dict[str, Any] = {}
    for name in ("loss", "validation_loss", "validation_accuracy"):
        value = getattr(measured, name)
        if value is not None:
            values[name] = ranks.total(value) / ranks.count
    return replace(measured, **values)
