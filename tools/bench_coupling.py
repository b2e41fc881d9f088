"""How long coupling takes on every torchvision classification model, one core, process CPU time.

    python tools/bench_coupling.py --out docs/results/bench_coupling.json

``fxgrow.couple`` on the whole model with a 1x3x224x224 input (299 for Inception), trial growth included; the median of
``--rounds`` runs after one that is not counted for the first model (imports). Random weights, nothing is downloaded.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

import fxgrow


def build(name: str) -> nn.Module:
    """The model with random weights, on the meta device where its constructor allows that."""
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        return torchvision.models.get_model(name, weights=None, **options)


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Seconds, widths and refusals of one model."""
    side = 299 if name == "inception_v3" else 224
    model, x = build(name), torch.empty(1, 3, side, side, device="meta")
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        coupling = fxgrow.couple(model, (x,))
        seconds.append(time.process_time() - start)
    refused: dict[str, int] = {}
    for width in coupling.widths:
        if width.refusal:
            refused[width.refusal.code] = refused.get(width.refusal.code, 0) + 1
    growable = [width for width in coupling.widths if width.growable]
    return {
        "seconds": statistics.median(seconds),
        "widths": len(coupling.widths),
        "growable": len(growable),
        "neurons": sum(width.size for width in growable),
        "refused": refused,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("models", nargs="*")
    args = parser.parse_args()
    torch.set_num_threads(1)
    names = args.models or torchvision.models.list_models(module=torchvision.models)
    measure("resnet18", 1)
    rows = {}
    for name in names:
        rows[name] = measure(name, args.rounds)
        row = rows[name]
        print(f"{name:24s} {row['seconds']:6.2f} s  {row['growable']:4d} of {row['widths']:4d} widths", flush=True)
    seconds = sorted(row["seconds"] for row in rows.values())
    unknown = sum(row["refused"].get("unknown-operator", 0) for row in rows.values())
    print(f"{len(rows)} models: median {statistics.median(seconds):.2f} s, slowest {seconds[-1]:.2f} s")
    print(f"{unknown} widths refused for an unknown operator")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({"torch": torch.__version__, "models": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
