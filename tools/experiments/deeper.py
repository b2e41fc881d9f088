"""Five torchvision models grow wider and deeper at once on `shapes`, and keep the three promises.

    python tools/experiments/deeper.py --out docs/results/deeper.json

Each model (random weights, 10 classes) is trained for a few steps and grown once by splits, new neurons and residual
layers together; then it is saved, loaded, and its logits compared.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch.nn import functional as F

import fxgrow
from fxgrow.data import batches, load_data

MODELS: dict[str, dict[str, Any]] = {
    "resnet18": {},
    "mobilenet_v2": {},
    "vit_b_32": {"image_size": 64},
    "swin_t": {},
    "convnext_tiny": {},
}


def grow_one(name: str, options: dict[str, Any], steps: int) -> dict[str, Any]:
    """Train for some steps, grow once, save and load."""
    torch.manual_seed(0)
    data = load_data("shapes", channels=3, size=64)
    model = torchvision.models.get_model(name, weights=None, num_classes=10, **options).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for images, labels in batches(data.train, 16, limit=steps):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    method = fxgrow.Firefly(new=2, layers=8, steps=8, refine_steps=4)
    growth = fxgrow.grow(
        model,
        list(batches(data.train, 16, limit=2)),
        F.cross_entropy,
        example_inputs=(data.train.images[:2],),
        method=method,
        budget=fxgrow.Budget(neurons=0.05, layers=3),
        optimizer=optimizer,
    )
    report, images = growth.report, data.train.images[:8]
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        growth.module.eval()
        fxgrow.save(growth, Path(folder, "grown"))
        same = bool(
            torch.equal(fxgrow.load(Path(folder, "grown")).eval()(images), growth.module(images))
        )
    return {
        "widths": len(report.widths),
        "layers": [layer.name for layer in report.layers],
        "loss_before": report.loss_before,
        "loss_after": report.loss_after,
        "backtracks": report.backtracks,
        "faithful_error": report.faithful_error,
        "preservation_error": report.preservation_error,
        "loaded_is_bit_identical": same,
        "seconds": report.seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found: dict[str, Any] = {}
    for name, options in MODELS.items():
        found[name] = grow_one(name, options, args.steps)
        print(name, found[name], flush=True)
        if args.out:
            args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
