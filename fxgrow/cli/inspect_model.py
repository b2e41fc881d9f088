"""``fxgrow inspect``: the widths of a model, and which of them can grow."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.text import Text
from torch import nn

from fxgrow.capture import How, PartReport, capture
from fxgrow.cli.arguments import AsJsonOption, LowerOption, ModelReference
from fxgrow.cli.console import print_parts, print_text
from fxgrow.cli.model_and_data import ModelAndData, load_model, lower_model
from fxgrow.coupling import FixedAxis, couple
from fxgrow.report import (
    capture_table,
    count_text,
    fixed_axes_table,
    unreached_lines,
    widths_lines,
    widths_table,
)
from fxgrow.spec import WidthSpec, width_spec


def inspect_model(
    model: ModelReference, lower: LowerOption = False, as_json: AsJsonOption = False
) -> None:
    """List the widths of a model: name, size, granule, sites, growable or the reason why not."""
    loaded = load_model(model)
    if lower:
        loaded = lower_model(loaded)
    captured = capture(loaded.model, loaded.example_inputs)
    parts = captured.report
    coupling = couple(captured)
    widths = [width_spec(width) for width in coupling.widths]
    if as_json:
        record = _to_record(loaded, parts, widths, coupling.fixed_axes)
        record["unreached"] = [asdict(module) for module in coupling.unreached]
        print_text(json.dumps(record, indent=2))
        return
    headline = f"{loaded.label}: {count_text(_count_parameters(loaded.model))} parameters"
    print_parts(Text(headline), widths_table(widths))
    # A table of the parts is of use only if some part was not traced.
    if not _all_traced(parts):
        print_parts(capture_table(parts, captured.traced_share))
    if coupling.fixed_axes:
        print_parts(fixed_axes_table(coupling.fixed_axes))
    if coupling.unreached:
        print_parts(unreached_lines(coupling.unreached))
    print_parts(widths_lines(widths))


def _count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _all_traced(parts: Sequence[PartReport]) -> bool:
    return {part.how for part in parts} <= {How.TRACED}


def _to_record(
    loaded: ModelAndData,
    parts: Sequence[PartReport],
    widths: Sequence[WidthSpec],
    fixed_axes: Sequence[FixedAxis],
) -> dict[str, Any]:
    """What ``--json`` prints."""
    captured_parts = []
    for part in parts:
        captured_parts.append({"module": part.module, "how": part.how.value, "why": part.why})
    return {
        "model": loaded.label,
        "parameters": _count_parameters(loaded.model),
        "capture": captured_parts,
        "widths": [width.model_dump(mode="json") for width in widths],
        "fixed_axes": [asdict(axis) for axis in fixed_axes],
    }
