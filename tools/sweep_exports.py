"""Export real models in every form that computes, compare, and write down the largest errors.

    python -m tools.sweep_exports                # docs/results/exports.json and exports.md, resumable
    python -m tools.sweep_exports --only 'swin*'

Random weights with batch-norm statistics and zero-initialised layers randomised, one thread, nothing is downloaded.
Every export compares by itself what was written with the model (see docs/exports.md); a format that cannot hold a model
is recorded with its sentence.
"""

import argparse
import json
import time
import warnings
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision import models

from fxgrow.errors import FxgrowError
from fxgrow.export import export
from fxgrow.export.compare import max_difference
from fxgrow.spec import describe, load, save

OUT = Path("docs/results/exports.json")
FORMATS = ("python", "pt2", "onnx")
SIDE = 224
NOTE = """Largest difference of an output, relative to its largest entry; 0: no bit differs. Signal: the same between
two inputs, without which equality says little. One thread of a shared machine, so seconds are rough.
`tools/sweep_exports.py`.

"""
NAMES = (
    "resnet18", "resnet50", "vgg11_bn", "densenet121", "googlenet", "mobilenet_v2", "mobilenet_v3_small",
    "efficientnet_b0", "shufflenet_v2_x1_0", "squeezenet1_0", "convnext_tiny", "vit_b_32", "swin_t", "regnet_y_400mf",
    "maxvit_t",
)  # fmt: skip


def randomised(model: nn.Module) -> nn.Module:
    """In eval mode; nothing is left at a constant, and batch-norm statistics are near those of random images.

    With statistics of no data the signal fades from layer to layer, and equal outputs would say nothing.
    """
    generator = torch.Generator().manual_seed(0)
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.unique().numel() <= 1:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for norm in norms:
            norm.momentum = None  # a plain mean over the batches seen
        if norms:
            model.train()(torch.randn(4, 3, SIDE, SIDE, generator=generator))
        for norm in norms:
            norm.momentum = 0.1
            norm.running_var *= torch.empty_like(norm.running_var).uniform_(
                0.8, 1.25, generator=generator
            )
    return model.eval()


@torch.no_grad()
def signal(model: nn.Module) -> float:
    """The relative change of the output from one random image to another."""
    generator = torch.Generator().manual_seed(1)
    first, second = (model(torch.randn(1, 3, SIDE, SIDE, generator=generator)) for _ in range(2))
    return max_difference([first], [second])


def measured(directory: Path, to: str) -> dict[str, Any]:
    """One format of a saved model: error, seconds, bytes and how it was checked, or why there is none."""
    start = time.perf_counter()
    try:
        done = export(directory, to, directory.parent / to)
    except FxgrowError as error:
        return {
            "refused": error.code,
            "reason": str(error),
            "seconds": round(time.perf_counter() - start, 1),
        }
    seconds = round(time.perf_counter() - start, 1)
    return {
        "error": done.check.error,
        "seconds": seconds,
        "bytes": done.size,
        "check": done.check.words,
    }


def row(name: str) -> dict[str, Any]:
    """All formats of one model."""
    torch.manual_seed(0)
    model = randomised(models.get_model(name, weights=None))
    graph_module = fx.symbolic_trace(model)
    with TemporaryDirectory() as folder:
        directory = Path(folder, "model")
        spec = save(
            graph_module, directory, describe(graph_module, (torch.zeros(1, 3, SIDE, SIDE),))
        )
        load(directory)
        found = {to: measured(directory, to) for to in FORMATS}
    return {
        "parameters": spec.cost.parameters,
        "nodes": len(spec.nodes),
        "signal": signal(model),
        **found,
    }


def table(rows: dict[str, Any]) -> str:
    """The results as Markdown."""
    head = (
        "model",
        "parameters",
        "signal",
        *(f"{to}: {what}" for to in FORMATS for what in ("error", "seconds")),
    )
    lines = [head, ("---",) * len(head)]
    for name, found in rows.items():
        cells = (
            cell for to in FORMATS for cell in (error_of(found[to]), str(found[to]["seconds"]))
        )
        lines.append((name, f"{found['parameters'] / 1e6:.1f} M", f"{found['signal']:.1e}", *cells))
    return NOTE + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def error_of(found: dict[str, Any]) -> str:
    if "refused" in found:
        return f"refused ({found['refused']})"
    fixed = (
        ""
        if "any size" in found["check"] or found["check"].startswith("class")
        else " (fixed batch)"
    )
    return (f"{found['error']:.1e}" if found["error"] else "0") + fixed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", metavar="PATTERN", default="*", help="only models whose name matches, done again"
    )
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = json.loads(args.out.read_text()) if args.out.exists() else {}
    for name in NAMES:
        if fnmatch(name, args.only) and (args.only != "*" or name not in rows):
            rows[name] = row(name)
            args.out.write_text(json.dumps(rows, indent=1) + "\n")
            args.out.with_suffix(".md").write_text(table(rows))
            print(
                name,
                *(
                    f"{to} {error_of(rows[name][to])} {rows[name][to]['seconds']} s"
                    for to in FORMATS
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()
