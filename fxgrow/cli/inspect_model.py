"""``fxgrow inspect``: the widths of a model, and what can grow."""

import json
from collections.abc import Sequence
from typing import Any

from rich.text import Text
from torch import nn

from fxgrow.capture import How, PartReport, capture
from fxgrow.cli.arguments import AsJson, Lower, ModelWords
from fxgrow.cli.console import show, show_text
from fxgrow.cli.subject import Subject, lowered, subject
from fxgrow.coupling import couple
from fxgrow.report import capture_table, count, widths_lines, widths_table
from fxgrow.spec import WidthSpec
from fxgrow.spec.build import width_spec


def inspect_model(model: ModelWords, lower: Lower = False, as_json: AsJson = False) -> None:
    """List the widths of a model: name, size, granule, sites, growable or the reason why not."""
    found = lowered(subject(model)) if lower else subject(model)
    captured = capture(found.model, found.example_inputs)
    parts = captured.report
    widths = [width_spec(width) for width in couple(captured).widths]
    if as_json:
        show_text(json.dumps(_record(found, parts, widths), indent=2))
        return
    show(Text(f"{found.label}: {count(_parameters(found.model))} parameters"), widths_table(widths))
    if any(part.how is not How.TRACED for part in parts):
        show(capture_table(parts, captured.traced_share))
    show(widths_lines(widths))


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _record(found: Subject, parts: Sequence[PartReport], widths: Sequence[WidthSpec]) -> dict[str, Any]:
    return {
        "model": found.label,
        "parameters": _parameters(found.model),
        "capture": [{"module": part.module, "how": part.how.value, "why": part.why} for part in parts],
        "widths": [width.model_dump(mode="json") for width in widths],
    }
