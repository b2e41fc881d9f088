"""The main job with its controls: ResNet-18 on digits, grown by Firefly, grown at random, not grown; equally long.

    python tools/experiments/demo.py --seeds 3 --out docs/results/demo.json

Settings are those of ``make demo``. Results are written as they come, and a run that is in the file is not done again.
Data: scikit-learn's 1,797 real 8x8 digits, repeated over the channels and upsampled to 3x32x32; random initial weights.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import torchvision

from fxgrow.data import load_data
from fxgrow.growth import Budget, Method
from fxgrow.methods import Firefly, RandomGrowth
from fxgrow.training import RunSettings, train_and_grow

KINDS: dict[str, tuple[Method, int]] = {
    "ungrown": (Firefly(), 0),
    "firefly": (Firefly(), 2),
    "random": (RandomGrowth(draws=1), 2),
}


def one_run(kind: str, seed: int, epochs: int) -> dict[str, Any]:
    """One training run; accuracies are on the test images, step losses on the growth batches."""
    method, grow_steps = KINDS[kind]
    torch.manual_seed(seed)
    model = torchvision.models.resnet18(num_classes=10)
    run = train_and_grow(
        model,
        load_data("digits", channels=3, size=32),
        RunSettings(epochs=epochs, grow_steps=grow_steps, seed=seed),
        example_inputs=(torch.zeros(1, 3, 32, 32),),
        method=method,
        budget=Budget(neurons=0.3),
    )
    return {
        "test_accuracy": run.after.test.accuracy,
        "train_loss": run.after.train.loss,
        "params": run.after.parameters,
        "epoch_seconds": run.epoch_seconds,
        "steps": [
            {
                "loss_before": growth.report.loss_before,
                "loss_after": growth.report.loss_after,
                "backtracks": growth.report.backtracks,
                "faithful_error": growth.report.faithful_error,
                "seconds": growth.report.seconds,
            }
            for growth in run.growths
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--out", type=Path, default=Path("docs/results/demo.json"))
    args = parser.parse_args()
    results = json.loads(args.out.read_text()) if args.out.exists() else {}
    for seed in range(args.seeds):
        for kind in args.kinds:
            key = f"{kind} seed {seed}"
            if key not in results:
                results[key] = one_run(kind, seed, args.epochs)
                args.out.parent.mkdir(parents=True, exist_ok=True)
                args.out.write_text(json.dumps(results, indent=1) + "\n")
            print(f"{key:16s} test accuracy {results[key]['test_accuracy']:.4f}", flush=True)


if __name__ == "__main__":
    main()
