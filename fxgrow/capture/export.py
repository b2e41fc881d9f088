"""The second way, torch.export, and the last: one call of the whole model."""

import warnings
from typing import Any

import torch
from torch import fx, nn

from fxgrow.capture.inputs import argument_names
from fxgrow.capture.parts import first_line
from fxgrow.capture.trace import TraceAttempt, disagreement

_WHOLE_MODEL = "model"
"""The name under which the graph of an opaque root holds the model."""


def export_graph(model: nn.Module, inputs: tuple[Any, ...], expected: Any) -> TraceAttempt:
    """The model's ATen graph for inputs of these very shapes, holding the model's own parameters and buffers.

    It is functional code for eval mode: ``train()`` and ``eval()`` set flags that nothing in it reads.
    """
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            made = torch.export.export(model, inputs, strict=False).module()
    except Exception as error:  # noqa: BLE001 - anything that the user's forward raises under torch.export
        return TraceAttempt(None, {}, first_line(error))
    graph_module = fx.GraphModule(made, made.graph, type(model).__name__)
    if not _shares(model, graph_module):
        return TraceAttempt(None, {}, "torch.export gave copies of the parameters")
    wrong = disagreement(graph_module, inputs, expected)
    return TraceAttempt(None if wrong else graph_module, {}, wrong or "")


def _shares(model: nn.Module, graph_module: fx.GraphModule) -> bool:
    mine = {id(parameter) for parameter in model.parameters()}
    return all(id(parameter) in mine for parameter in graph_module.parameters())


def opaque_graph(model: nn.Module, inputs: tuple[Any, ...]) -> fx.GraphModule:
    """A graph of one node: the whole model, called on its arguments."""
    graph = fx.Graph()
    arguments = tuple(graph.placeholder(name) for name in argument_names(model, inputs))
    graph.output(graph.call_module(_WHOLE_MODEL, arguments))
    return fx.GraphModule({_WHOLE_MODEL: model}, graph, type(model).__name__)
