"""From a model to a graph, the best of three ways: torch.fx, torch.export, one opaque call.

Which is best is decided by what can be grown in it; see ``docs/decisions/0007-three-ways-to-capture.md``.
"""

from typing import Any

from torch import nn

from fxgrow.capture.export import export_graph, opaque_graph
from fxgrow.capture.inputs import positional_inputs
from fxgrow.capture.parts import Captured, How, PartReport, first_line, traced_share
from fxgrow.capture.running import preserve_state, run_model
from fxgrow.capture.trace import TraceAttempt, disagreement, trace_model
from fxgrow.errors import ModelError

_ENOUGH_TRACED = 0.5
"""A traced graph is taken if at least this share of the parameters lies outside its opaque parts."""


def capture(model: nn.Module, example_inputs: Any) -> Captured:
    """A graph of ``model`` (in eval mode) that was run beside it and gives the same output.

    ``example_inputs``: a tuple of arguments, one tensor, or a dict of keyword arguments. Any model that runs on them is
    captured; the report says how. The graph holds the model's own parameters, and the model is left as it was. Raises
    ``ModelError`` if the model itself does not run.
    """
    inputs = positional_inputs(model, example_inputs)
    with preserve_state(model):
        expected = _expected(model, inputs)
        return _best(model, inputs, expected)


def verify_capture(captured: Captured) -> str | None:
    """Run the graph beside the model: None if both give the same output, else what is wrong."""
    with preserve_state(captured.model):
        expected = _expected(captured.model, captured.example_inputs)
        return disagreement(captured.graph_module, captured.example_inputs, expected)


def _expected(model: nn.Module, inputs: tuple[Any, ...]) -> Any:
    try:
        return run_model(model, inputs)
    except Exception as error:
        message = f"{type(model).__name__} does not run on its example inputs: {first_line(error)}"
        raise ModelError("does-not-run", message) from error


def _best(model: nn.Module, inputs: tuple[Any, ...], expected: Any) -> Captured:
    plain = trace_model(model, inputs, expected, decide=False)
    best = (
        plain
        if _share(model, plain) == 1
        else _better(model, plain, trace_model(model, inputs, expected, decide=True))
    )
    if best.graph_module is not None and _share(model, best) >= _ENOUGH_TRACED:
        return _captured(model, inputs, best, How.TRACED)
    other = export_graph(model, inputs, expected)
    if other.graph_module is not None:
        why = f"torch.fx: {best.why or 'most of it would be opaque'}"
        return _captured(model, inputs, TraceAttempt(other.graph_module, {}, why), How.EXPORTED)
    if best.graph_module is not None:
        return _captured(model, inputs, best, How.TRACED)
    why = f"torch.fx: {best.why}; torch.export: {other.why}"
    return _captured(model, inputs, TraceAttempt(opaque_graph(model, inputs), {}, why), How.OPAQUE)


def _share(model: nn.Module, attempt: TraceAttempt) -> float:
    return -1.0 if attempt.graph_module is None else traced_share(model, attempt.opaque)


def _better(model: nn.Module, first: TraceAttempt, second: TraceAttempt) -> TraceAttempt:
    if first.graph_module is None and second.graph_module is None:
        return second  # its reason is what stands in the way in the end
    return second if _share(model, second) > _share(model, first) else first


def _captured(
    model: nn.Module, inputs: tuple[Any, ...], attempt: TraceAttempt, how: How
) -> Captured:
    if attempt.graph_module is None:
        raise TypeError("no graph was made")
    parts = (PartReport(path, How.OPAQUE, why) for path, why in attempt.opaque.items())
    return Captured(model, attempt.graph_module, inputs, (PartReport("", how, attempt.why), *parts))
