"""From a model to a graph, the best of three ways: torch.fx, torch.export, one opaque call.

Which is best is decided by what can be grown in it; see
``docs/decisions/0007-three-ways-to-capture.md``.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from torch import nn

from fxgrow.argument_checks import checked
from fxgrow.capture.admission import require_growable_model
from fxgrow.capture.export import export_graph, opaque_graph
from fxgrow.capture.hooks import changing_hooks
from fxgrow.capture.inputs import positional_inputs
from fxgrow.capture.parts import Captured, How, PartReport, first_line, traced_share
from fxgrow.capture.running import preserve_state, run_model
from fxgrow.capture.trace import TraceAttempt, disagreement, trace_model
from fxgrow.errors import ModelError
from fxgrow.modes import exclusive_autograd, garbage_collection_off, plain_attention

_ENOUGH_TRACED = 0.5
"""A traced graph is taken if at least this share of the parameters is outside its opaque parts."""


@checked
def capture(model: nn.Module, example_inputs: Any) -> Captured:
    """A graph of a model in evaluation mode, run beside the model to check that both agree.

    Any model that runs on the example inputs is captured; the report says how. The graph holds the
    model's own parameters, and the model is left as it was.

    Args:
        model: the model.
        example_inputs: a tuple of arguments, one tensor, or a dict of keyword arguments.

    Returns:
        The graph and the report.

    Raises:
        ModelError: ``does-not-run`` if the model itself does not run on the inputs, ``bad-inputs``
            if they are none; ``wrapped-model``, ``quantized-model`` or ``uninitialized`` for a
            model that is not made of plain modules.

    Example:
        >>> captured = capture(torchvision.models.resnet18(), torch.randn(1, 3, 64, 64))
        >>> captured.how, captured.traced_share
        (<How.TRACED: 'traced'>, 1.0)
    """
    require_growable_model(model)
    inputs = positional_inputs(model, example_inputs)
    with exclusive_autograd(), preserve_state(model), plain_attention():
        with changing_hooks(model) as changing:
            expected = _expected_output(model, inputs)
        return _best_capture(model, inputs, expected, changing)


def verify_capture(captured: Captured) -> str | None:
    """Run the graph beside the model: None if both give the same output, else what is wrong."""
    with preserve_state(captured.model), plain_attention():
        expected = _expected_output(captured.model, captured.example_inputs)
        return disagreement(captured.graph_module, captured.example_inputs, expected)


def _expected_output(model: nn.Module, inputs: tuple[Any, ...]) -> Any:
    try:
        return run_model(model, inputs)
    except Exception as error:
        message = f"{type(model).__name__} does not run on its example inputs: {first_line(error)}"
        raise ModelError("does-not-run", message) from error


@garbage_collection_off()
def _best_capture(
    model: nn.Module, inputs: tuple[Any, ...], expected: Any, changing: Collection[int]
) -> Captured:
    trace = trace_model(model, inputs, expected, decide=False, changing=changing)
    # Deciding what Python asks about shapes pins them, so it is done only if something is gained.
    if _share(model, trace) < 1:
        decided = trace_model(model, inputs, expected, decide=True, changing=changing)
        trace = _better(model, trace, decided)
    is_enough = _share(model, trace) >= _ENOUGH_TRACED and not trace.by_methods
    if trace.graph_module is not None and is_enough:
        return _captured(model, inputs, trace, How.TRACED)
    # An exported graph holds bare operators, for which there are fewer rewrite rules.
    export = export_graph(model, inputs, expected)
    if export.graph_module is not None:
        why = f"torch.fx: {trace.why or 'most of it would be opaque'}"
        return _captured(model, inputs, TraceAttempt(export.graph_module, {}, why), How.EXPORTED)
    if trace.graph_module is not None:
        return _captured(model, inputs, trace, How.TRACED)
    why = f"torch.fx: {trace.why}; torch.export: {export.why}"
    return _captured(model, inputs, TraceAttempt(opaque_graph(model, inputs), {}, why), How.OPAQUE)


def _share(model: nn.Module, attempt: TraceAttempt) -> float:
    """The share of the parameters that a graph reaches; -1 if there is no graph."""
    return -1.0 if attempt.graph_module is None else traced_share(model, attempt.opaque)


def _better(model: nn.Module, first: TraceAttempt, second: TraceAttempt) -> TraceAttempt:
    if first.graph_module is None and second.graph_module is None:
        return second  # the reason that is left after everything was tried
    if _share(model, second) > _share(model, first):
        return second
    # The second attempt knows why a part is opaque still; the first only that it branches.
    opaque = {path: second.opaque.get(path, why) for path, why in first.opaque.items()}
    return replace(first, opaque=opaque)


def _captured(
    model: nn.Module, inputs: tuple[Any, ...], attempt: TraceAttempt, how: How
) -> Captured:
    if attempt.graph_module is None:
        raise TypeError("no graph was made")
    report = [PartReport("", how, attempt.why)]
    for path, why in attempt.opaque.items():
        report.append(PartReport(path, How.OPAQUE, why))
    return Captured(model, attempt.graph_module, inputs, tuple(report))
