"""How far the loss jumps when training goes on after growth, with and without statistics of fresh channels.

    python tools/experiments/fresh_statistics.py --out docs/results/fresh_statistics.json

ResNet-18 (random initial weights) is trained on digits for two epochs and then gets new neurons. ``jump``: the loss on
the growth batches with each batch's own statistics (the next training step's) less that with running statistics
(evaluation mode). Statistics of fresh channels are estimated before step one (``start``), before emission (``end``,
which leaves the function alone), at both, or never.
"""

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from fxgrow.coupling import couple
from fxgrow.data import batches, load_data
from fxgrow.growth import Budget, Growth, Objective, grow_step
from fxgrow.growth.objective import evaluating
from fxgrow.growth.statistics import Norm, gap
from fxgrow.methods import Firefly
from fxgrow.methods.firefly.neighbourhood import start
from fxgrow.rewrite import OverGrown
from fxgrow.training import cross_entropy, train_epoch

INPUTS = (torch.zeros(1, 3, 32, 32),)


class AsInserted(Firefly):
    """Firefly whose fresh channels have mean 0 and variance 1 in step one."""

    def begin(self, grown: OverGrown, objective: Objective, generator: torch.Generator) -> None:
        """Random directions alone."""
        start(grown, self.eps, generator)


def unsettled(growth: Growth) -> nn.Module:
    """The same function with the fresh channels' statistics at mean 0 and variance 1: as without the estimate."""
    module = copy.deepcopy(growth.module)
    coupling = couple(module, INPUTS)
    for change in growth.report.widths:
        for site in coupling.by_name[change.width].sites:
            owner, _, leaf = site.parameter.rpartition(".")
            if leaf == "running_mean" and change.new:
                norm = module.get_submodule(owner)
                names = ("running_mean", "running_var", "weight", "bias")
                fresh = [getattr(norm, name).data[-change.new :] for name in names]
                zero = torch.zeros(change.new, dtype=torch.float64)
                Norm(*fresh, eps=norm.eps).rebase(zero, zero + 1)  # type: ignore[arg-type]
    return module


def one_seed(seed: int, split: bool) -> dict[str, Any]:
    """Jumps by what was estimated when."""
    torch.manual_seed(seed)
    data, model = load_data("digits", channels=3, size=32), torchvision.models.resnet18(num_classes=10)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    for _ in range(2):
        train_epoch(model, batches(data.train, 32, shuffle=True, generator=generator), cross_entropy, optimizer)
    held = list(batches(data.train, 64, shuffle=True, generator=generator, limit=8))
    rows = {}
    for method, names in ((AsInserted, ("never", "end")), (Firefly, ("start", "start and end"))):
        growth = grow_step(
            model, held, cross_entropy,
            example_inputs=INPUTS, method=method(split=split), budget=Budget(neurons=0.05), seed=seed,
        )  # fmt: skip
        report, objective = growth.report, Objective.of(held, cross_entropy, growth.module)
        assert report.jump is not None
        for name, module in zip(names, (unsettled(growth), growth.module), strict=True):
            with evaluating(module):
                rows[name] = {
                    "loss_before": report.loss_before,
                    "loss_after": objective.mean(module),
                    "jump_before": report.jump.before,
                    "jump_after": gap(module, objective),
                    "new": sum(width.new for width in report.widths),
                    "split": sum(width.split for width in report.widths),
                    "backtracks": report.backtracks,
                }
            print(f"seed {seed} split={split} {name:14s}", json.dumps(rows[name]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("docs/results/fresh_statistics.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for seed in range(args.seeds):
        for kind, split in (("new neurons only", False), ("split + new", True)):
            results[f"{kind}, seed {seed}"] = one_seed(seed, split)
            args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
