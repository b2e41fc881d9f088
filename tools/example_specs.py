"""The example specifications in ``specs/architectures``: grown models, without weights, and what they began as.

    python -m tools.example_specs                 # all of them, a few minutes; the same files every time

``fxgrow check`` and ``fxgrow replay`` read them; ``fxgrow diff`` compares one with its ``initial``.
"""

import argparse
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models

import fxgrow
from fxgrow.data import batches, load_data
from fxgrow.lowering import lower
from fxgrow.spec import ArchitectureSpec
from fxgrow.spec.meta_module import write_architecture
from fxgrow.training import train_epoch
from fxgrow.training.network import capture_network

FOLDER = Path("specs/architectures")
SIZE, BATCH, CLASSES = 32, 8, 10
METHOD = fxgrow.Firefly(new=2, layers=2, steps=4, refine_steps=2)
BUDGET = fxgrow.Budget(neurons=0.1, layers=2)
STEPS = 2

MODELS: Mapping[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: models.resnet18(num_classes=CLASSES),
    "vgg19": lambda: models.vgg19_bn(num_classes=CLASSES, dropout=0.0),
    "mobilenet_v2": lambda: models.mobilenet_v2(num_classes=CLASSES),
    "vit": lambda: lower(models.VisionTransformer(SIZE, 4, 4, 4, 64, 128, num_classes=CLASSES)),
}


def grown(build: Callable[[], nn.Module]) -> tuple[ArchitectureSpec, ArchitectureSpec]:
    """The spec of a model and of what it is after two growth steps, trained a little before each."""
    torch.manual_seed(0)
    shapes = load_data(
        "shapes", size=SIZE, classes=CLASSES, train_size=8 * BATCH, test_size=BATCH
    ).train
    few = list(batches(shapes, BATCH, shuffle=True, generator=torch.Generator().manual_seed(0)))
    module = build()
    example = (shapes.images[:1],)
    first = capture_network(module, example).spec
    history = first.history
    for _ in range(STEPS):
        train_epoch(module, few, F.cross_entropy, torch.optim.SGD(module.parameters(), lr=0.01))
        growth = fxgrow.grow(
            module,
            few[:1],
            F.cross_entropy,
            example_inputs=example,
            method=METHOD,
            budget=BUDGET,
            history=history,
        )
        module, history = growth.module, growth.spec.history
    return first, growth.spec


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=list(MODELS))
    warnings.simplefilter("ignore")
    for name in parser.parse_args().only:
        first, last = grown(MODELS[name])
        write_architecture(FOLDER / name, last)
        write_architecture(FOLDER / name / "initial", first)
        print(
            name, first.cost, last.cost, (FOLDER / name / "config.json").stat().st_size, flush=True
        )


if __name__ == "__main__":
    main()
