"""``fxgrow inspect``: the widths of a model, and what can grow."""

import json
from collections.abc import Sequence
from typing import Any

from rich.text import Text
from torch import nn

from fxgrow.capture import Captured, How, PartReport, capture
from fxgrow.cli.arguments import AsJson, ModelWords
from fxgrow.cli.console import show, show_text
from fxgrow.cli.subject import Subject, subject
from fxgrow.coupling import couple
from fxgrow.errors import ModelError
from fxgrow.report import capture_table, count, widths_lines, widths_table
from fxgrow.spec import WidthSpec
from fxgrow.spec.build import width_spec


def inspect_model(model: ModelWords, as_json: AsJson = False) -> None:
    """List the widths of a model: name, size, granule, sites, growable or the reason why not."""
    found = subject(model)
    parts, target = _captured(found)
    widths = [width_spec(width) for width in couple(target, found.example_inputs).widths]
    if as_json:
        show_text(json.dumps(_record(found, parts, widths), indent=2))
        return
    show(Text(f"{found.label}: {count(_parameters(found.model))} parameters"), widths_table(widths))
    if any(part.how is not How.TRACED for part in parts):
        show(capture_table(parts))
    show(widths_lines(widths))


def _captured(found: Subject) -> tuple[tuple[PartReport, ...], nn.Module | Captured]:
    """The capture report and what to couple: a model that cannot be traced as a whole has widths all the same."""
    try:
        captured = capture(found.model, found.example_inputs)
    except ModelError as error:
        return (PartReport("", How.OPAQUE, str(error)),), found.model
    return captured.report, captured


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _record(found: Subject, parts: Sequence[PartReport], widths: Sequence[WidthSpec]) -> dict[str, Any]:
    return {
        "model": found.label,
        "parameters": _parameters(found.model),
        "capture": [{"module": part.module, "how": part.how.value, "why": part.why} for part in parts],
        "widths": [width.model_dump(mode="json") for width in widths],
    }
