"""The second way, torch.export, and the last: one call of the model."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

import torch
from torch import fx, nn

from fxgrow.capture.einsums import split_einsums
from fxgrow.capture.flat_output import rebuild_outputs, with_flat_output
from fxgrow.capture.inputs import argument_names
from fxgrow.capture.parts import first_line
from fxgrow.capture.trace import TraceAttempt, disagreement

_OPAQUE_MODEL = "model"
"""The name under which the graph of an opaque root holds the model."""


def export_graph(model: nn.Module, inputs: tuple[Any, ...], expected: Any) -> TraceAttempt:
    """The model's ATen graph for inputs of these very shapes.

    It holds the model's own parameters and buffers. It is functional code for evaluation mode:
    ``train()`` and ``eval()`` set flags that nothing in it reads.

    Args:
        model: the model, in evaluation mode.
        inputs: its positional arguments.
        expected: its output on them.

    Returns:
        The graph, or why there is none.
    """
    attempt = _export(model, inputs, expected, flat_output=False)
    if attempt.graph_module is None:
        # The output may hold objects that torch.export does not know (a cache).
        second = _export(model, inputs, expected, flat_output=True)
        return attempt if second.graph_module is None else second
    return attempt


def _export(
    model: nn.Module, inputs: tuple[Any, ...], expected: Any, flat_output: bool
) -> TraceAttempt:
    exportable = with_flat_output(model) if flat_output else model
    try:
        with _quiet(), torch.no_grad():
            # Not strict: Python itself runs the forward, which takes more models than TorchDynamo.
            exported = torch.export.export(exportable, inputs, strict=False).module()
        graph_module = fx.GraphModule(exported, exported.graph, type(model).__name__)
        if flat_output:
            rebuild_outputs(graph_module, expected)
    except Exception as error:  # noqa: BLE001 - the user's forward may raise anything
        return TraceAttempt(None, {}, first_line(error))
    if not _shares_parameters(model, graph_module):
        return TraceAttempt(None, {}, "torch.export gave copies of the parameters")
    split_einsums(graph_module)
    wrong = disagreement(graph_module, inputs, expected)
    return TraceAttempt(None if wrong else graph_module, {}, wrong or "")


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, and no dump of the graph so far where an operator depends on values.

    A model that cannot be exported is no fault of the user's: it is run as it is.
    """
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _shares_parameters(model: nn.Module, graph_module: fx.GraphModule) -> bool:
    """Whether all parameters of a graph are the model's own objects."""
    own_ids = set(map(id, model.parameters()))
    return own_ids.issuperset(map(id, graph_module.parameters()))


def opaque_graph(model: nn.Module, inputs: tuple[Any, ...]) -> fx.GraphModule:
    """A graph of one node: the model, called on its arguments.

    Args:
        model: the model.
        inputs: its positional arguments.

    Returns:
        A graph module that holds the model as ``model``.
    """
    graph = fx.Graph()
    arguments = tuple(graph.placeholder(name) for name in argument_names(model, inputs))
    graph.output(graph.call_module(_OPAQUE_MODEL, arguments))
    return fx.GraphModule({_OPAQUE_MODEL: model}, graph, type(model).__name__)
