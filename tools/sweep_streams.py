"""Which widths under norms grow: every stream of the models of a zoo, by 1, 7 and d new neurons, in float64.

    python -m tools.sweep_streams --zoo hf --out docs/results/streams.json
    python -m tools.sweep_streams --zoo timm --only 'deit*'

One line per width: ``kept`` if the output is kept by all three (to 1e-9, or to the rounding of a norm that computes
in float32 by a cast of its own, which ``widen`` tells from a wrong growth by computing all of it in float64); else the
code and the sentence with which ``widen`` refuses it, and whether splitting every neuron once keeps it.
"""

import argparse
import json
import warnings
from collections import Counter
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

import fxgrow
from fxgrow.coupling import UNDER_NORMS
from tools import sweep
from tools.zoo import Row

LARGE = 20_000_000
"""Parameters from which on a model is left out: three copies in float64 take their time."""


def main() -> None:
    """Run the rows that are asked for, and write what came of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", action="append", choices=sweep.MODULES, required=True)
    parser.add_argument("--only", action="append", default=None)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    lines = []
    for zoo in chosen.zoo:
        import_module(sweep.LIBRARIES[zoo])
        for row in sweep.rows(zoo):
            if chosen.only is None or any(fnmatch(row.name, one) for one in chosen.only):
                found = streams_of(zoo, row)
                lines += found
                for line in found:
                    print(json.dumps(line), flush=True)
    outcomes = Counter(line["outcome"] for line in lines)
    print(dict(outcomes))
    if chosen.out is not None:
        options = [f"--zoo {zoo}" for zoo in chosen.zoo]
        options += [f"--only '{one}'" for one in chosen.only or ()]
        command = f"python -m tools.sweep_streams {' '.join(options)}"
        record = {"command": command, "outcomes": dict(outcomes), "streams": lines}
        chosen.out.write_text(json.dumps(record, indent=1) + "\n")


def streams_of(zoo: str, row: Row) -> list[dict[str, Any]]:
    """What comes of every width of a model that norms run over."""
    torch.manual_seed(0)
    try:
        model = sweep.randomise(row.factory().double()).eval()
        if sum(parameter.numel() for parameter in model.parameters()) > LARGE:
            return []
        inputs = row.inputs(torch.float64)
        sweep.calibrate(model, inputs)
        widths = fxgrow.couple(model, inputs).widths
    except Exception as error:  # noqa: BLE001 - whatever a model raises is told by the other sweeps
        return [{"zoo": zoo, "model": row.name, "outcome": "not coupled", "message": str(error)}]
    lines = []
    for width in widths:
        if width.refusal is not None and width.refusal.code in UNDER_NORMS:
            line = {"zoo": zoo, "model": row.name, "width": width.name, "size": width.size}
            lines.append(line | grown(model, inputs, width.name, width.size))
    return lines


def grown(model: nn.Module, inputs: Any, name: str, size: int) -> dict[str, Any]:
    """Whether one width gets new neurons; if not, whether it splits."""
    try:
        errors = [widened(model, inputs, name, count, "new") for count in (1, 7, size)]
        return {"outcome": "kept", "error": max(errors)}
    except fxgrow.FxgrowError as error:
        told = {"outcome": "refused", "code": error.code, "message": str(error)[:400]}
    try:
        widened(model, inputs, name, size, "split")
    except fxgrow.FxgrowError:
        return told
    return told | {"outcome": "splits only"}


def widened(model: nn.Module, inputs: Any, name: str, count: int, how: Any) -> float:
    """The relative change of the output."""
    wider = fxgrow.widen(model, {name: count}, inputs, how=how).module.eval()
    with torch.no_grad():
        return sweep.change(sweep.call(wider, inputs), sweep.call(model, inputs))


if __name__ == "__main__":
    main()
