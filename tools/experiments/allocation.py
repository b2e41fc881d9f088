"""Where do neurons go? Digits, by networks of which some width is too narrow.

    python -m tools.experiments.allocation --seeds 6 --out docs/results/allocation.json   # (`make allocation`)

Every network trains for 8 epochs (AdamW, 3e-3), gains 12 neurons in all, wherever the method puts them, and trains for 8
more. All methods of a seed have the same weights and batches before they grow. What a search costs is not charged.
"""

import argparse
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import fxgrow
from fxgrow.data import Splits, batches, load_data
from fxgrow.growth import Method
from fxgrow.methods import GradientPool, ZeroOutgoing

NETWORKS = ((3, 16), (16, 3), (6, 6), (4, 4, 4))
"""Neurons of the hidden layers."""
METHODS: dict[str, Method] = {
    "GradientPool": GradientPool(),
    "ZeroOutgoing": ZeroOutgoing(),
    "RandomGrowth": fxgrow.RandomGrowth(),
    "Firefly": fxgrow.Firefly(),
}
NEURONS = 12
EPOCHS = 8


def network(widths: tuple[int, ...]) -> nn.Sequential:
    """Images of 8 x 8 pixels to ten classes."""
    layers: list[nn.Module] = [nn.Flatten()]
    size = 64
    for width in widths:
        layers += [nn.Linear(size, width), nn.ReLU()]
        size = width
    return nn.Sequential(*layers, nn.Linear(size, 10))


def run(widths: tuple[int, ...], method: Method, data: Splits, seed: int) -> dict[str, Any]:
    """One network that grows once: its widths afterwards, and its accuracy and loss on test images."""
    torch.manual_seed(seed)
    model = network(widths)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    _train(model, optimizer, data)
    growth = fxgrow.grow(
        model,
        batches(data.train, 64),
        F.cross_entropy,
        method=method,
        budget=fxgrow.Budget(neurons=NEURONS),
        optimizer=optimizer,
        seed=seed,
        accept_no_gain=True,
    )
    _train(growth.module, growth.optimizer or optimizer, data)
    grown = [
        layer.out_features for layer in growth.module.children() if isinstance(layer, nn.Linear)
    ]
    with torch.no_grad():
        logits = growth.module.eval()(data.test.images)
    right = (logits.argmax(1) == data.test.labels).float().mean()
    loss = F.cross_entropy(logits, data.test.labels)
    return {"widths": grown[:-1], "accuracy": float(right), "loss": float(loss)}


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, data: Splits) -> None:
    model.train()
    for _ in range(EPOCHS):
        for images, labels in batches(data.train, 32, shuffle=True):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()


def main() -> None:
    """Run all networks by all methods, and write what they gave."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    data = load_data("digits", channels=1, size=8)
    found: dict[str, Any] = {"torch": torch.__version__, "seeds": chosen.seeds, "networks": {}}
    for widths in NETWORKS:
        name = "-".join(map(str, widths))
        found["networks"][name] = {}
        for method_name, method in METHODS.items():
            runs = [run(widths, method, data, seed) for seed in range(chosen.seeds)]
            accuracies = [one["accuracy"] for one in runs]
            error = stdev(accuracies) / len(accuracies) ** 0.5
            told = {"accuracy": mean(accuracies), "standard_error": error, "runs": runs}
            found["networks"][name][method_name] = told
            print(f"{name:6} {method_name:13} {told['accuracy']:.3f} +- {error:.3f}", flush=True)
            chosen.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
