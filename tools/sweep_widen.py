"""Does widening keep the function of real models? Every growable width at once, in float64, against 1e-9.

    python tools/sweep_widen.py --out docs/results/sweep_widen.json          # the thirteen models of issue A
    python tools/sweep_widen.py resnet50 maxvit_t

Batch-norm statistics, zero-initialised and constant parameters are randomised first, so that equality says something.
Checked for split and for new neurons: the relative change of the output in eval mode, that the sizes which modules keep
agree with their parameters, and that SGD in train mode gives a finite loss. Random weights, nothing is downloaded.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

import fxgrow

MODELS = (
    "resnet18", "vgg16_bn", "mobilenet_v2", "densenet121", "resnext50_32x4d", "shufflenet_v2_x1_0", "swin_t",
    "convnext_tiny", "efficientnet_b0", "googlenet", "regnet_y_400mf", "squeezenet1_1", "vit_b_32",
)  # fmt: skip
BOUND = 1e-9


def randomise(model: nn.Module) -> nn.Module:
    """Nothing constant is left in the model."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() > 1 and float(parameter.std()) < 1e-3:
                parameter.add_(0.3 * torch.randn_like(parameter))
        for norm in (m for m in model.modules() if isinstance(m, _BatchNorm)):
            norm.running_mean.normal_(0, 0.2)
            norm.running_var.uniform_(0.5, 2)
    return model


def sizes_agree(model: nn.Module) -> bool:
    """Whether every convolution, linear layer and batch norm knows the size of its weight."""
    return all(
        (not isinstance(m, _ConvNd) or m.weight.shape[:2] == (m.out_channels, m.in_channels // m.groups))
        and (not isinstance(m, nn.Linear) or m.weight.shape == (m.out_features, m.in_features))
        and (not isinstance(m, _BatchNorm) or len(m.weight) == len(m.running_mean) == m.num_features)
        for m in model.modules()
    )


def logits(output: Any) -> Tensor:
    """The main output of a model that gives auxiliary ones in train mode."""
    return output if isinstance(output, Tensor) else output[0]


def trains(model: nn.Module, x: Tensor) -> bool:
    """One step of SGD in train mode, then a finite loss."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    target = torch.arange(len(x))
    F.cross_entropy(logits(model(x)), target).backward()
    optimizer.step()
    return bool(torch.isfinite(F.cross_entropy(logits(model(x)), target)))


def sweep(name: str) -> dict[str, Any]:
    """The row of one model."""
    torch.manual_seed(0)
    start = time.perf_counter()
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = randomise(torchvision.models.get_model(name, weights=None, num_classes=10, **options).double())
    side = 299 if name == "inception_v3" else 224
    x = torch.randn(2, 3, side, side, dtype=torch.float64)
    widths = fxgrow.couple(model, (x,)).widths
    amounts = {width.name: max(1, width.size // 3) for width in widths if width.growable}
    row: dict[str, Any] = {"growable": len(amounts), "widths": len(widths)}
    with torch.no_grad():
        expected = model.eval()(x)
    for how in ("split", "new"):
        wider = fxgrow.widen(model, amounts, (x,), how=how).module
        with torch.no_grad():
            found = wider.eval()(x)
        row[how] = float((found - expected).abs().max() / expected.abs().max())
        row["sizes agree"] = row.get("sizes agree", True) and sizes_agree(wider)
        row["trains"] = row.get("trains", True) and trains(wider, x)
    row["seconds"] = round(time.perf_counter() - start, 1)
    row["kept"] = max(row["split"], row["new"]) < BOUND and row["sizes agree"] and row["trains"]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("models", nargs="*")
    args = parser.parse_args()
    rows = {}
    for name in args.models or MODELS:
        row = rows[name] = sweep(name)
        errors = f"split {row['split']:.1e}  new {row['new']:.1e}"
        print(
            f"{name:20s} {row['growable']:4d} of {row['widths']:4d} widths  {errors}  kept: {row['kept']}", flush=True
        )
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"{sum(row['kept'] for row in rows.values())} of {len(rows)} models kept their function to {BOUND:g}")


if __name__ == "__main__":
    main()
