"""``fxgrow inspect``: the widths of a model, and what can grow."""

import json
from collections.abc import Sequence
from typing import Any

from rich.text import Text
from torch import nn

from fxgrow.capture import How, PartReport, capture
from fxgrow.cli.arguments import AsJsonOption, LowerOption, ModelReference
from fxgrow.cli.console import print_parts, print_text
from fxgrow.cli.model_and_data import ModelAndData, load_model, lower_model
from fxgrow.coupling import couple
from fxgrow.report import capture_table, count_text, widths_lines, widths_table
from fxgrow.spec import WidthSpec, width_spec


def inspect_model(
    model: ModelReference, lower: LowerOption = False, as_json: AsJsonOption = False
) -> None:
    """List the widths of a model: name, size, granule, sites, growable or the reason why not."""
    found = lower_model(load_model(model)) if lower else load_model(model)
    captured = capture(found.model, found.example_inputs)
    parts = captured.report
    widths = [width_spec(width) for width in couple(captured).widths]
    if as_json:
        print_text(json.dumps(_record(found, parts, widths), indent=2))
        return
    print_parts(
        Text(f"{found.label}: {count_text(_parameters(found.model))} parameters"),
        widths_table(widths),
    )
    if any(part.how is not How.TRACED for part in parts):
        print_parts(capture_table(parts, captured.traced_share))
    print_parts(widths_lines(widths))


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _record(
    found: ModelAndData, parts: Sequence[PartReport], widths: Sequence[WidthSpec]
) -> dict[str, Any]:
    return {
        "model": found.label,
        "parameters": _parameters(found.model),
        "capture": [
            {"module": part.module, "how": part.how.value, "why": part.why} for part in parts
        ],
        "widths": [width.model_dump(mode="json") for width in widths],
    }
