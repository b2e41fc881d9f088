"""How far the loss jumps when training goes on after growth, with and without statistics of fresh channels.

    python tools/experiments/fresh_statistics.py --out docs/results/fresh_statistics.json

ResNet-18 (random initial weights) is trained on digits for two epochs and then gets new neurons. ``jump``: the loss on
the growth batches with each batch's own statistics (the next training step's) less that with running statistics
(evaluation mode); ``jump_of_fresh``: the same if only the fresh channels take the batch's own, which leaves out what
the old channels' running statistics miss, before growth as after. Statistics of fresh channels are estimated before
step one (``start``), before emission (``end``, which leaves the function alone), at both, or never.
"""

import argparse
import copy
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from fxgrow.coupling import couple
from fxgrow.data import batches, load_data
from fxgrow.growth import Budget, Growth, Objective, StepOptions, grow_step
from fxgrow.growth.statistics import BatchNormState, batch_statistics_gap
from fxgrow.methods import Firefly
from fxgrow.methods.firefly.neighborhood import initialize
from fxgrow.modes import evaluation_mode
from fxgrow.rewrite import OverGrown
from fxgrow.training import cross_entropy, train_epoch

PARTS = ("running_mean", "running_var", "weight", "bias")
INPUTS = (torch.zeros(1, 3, 32, 32),)


class AsInserted(Firefly):
    """Firefly whose fresh channels have mean 0 and variance 1 in step one."""

    def begin(self, grown: OverGrown, objective: Objective, generator: torch.Generator) -> None:
        """Random directions alone."""
        initialize(grown, self.eps, generator)


def fresh_channels(growth: Growth) -> dict[str, int]:
    """How many channels at the end of each batch norm are fresh."""
    coupling = couple(growth.module, INPUTS)
    sites = [
        (site, change.new)
        for change in growth.report.widths
        for site in coupling.by_name[change.width].sites
    ]
    named = [(*site.parameter.rpartition("."), new) for site, new in sites if new]
    return {owner: new for owner, _, leaf, new in named if leaf == "running_mean"}


def unsettled(growth: Growth, fresh: dict[str, int]) -> nn.Module:
    """The same function with the fresh channels' statistics at mean 0 and variance 1: as without the estimate."""
    module = copy.deepcopy(growth.module)
    for name, count in fresh.items():
        own_part(module.get_submodule(name), count).rebase(
            torch.tensor(0.0).double(), torch.tensor(1.0).double()
        )
    return module


def own_part(norm: Any, count: int) -> BatchNormState:
    """The last channels of a batch norm."""
    mean, var, weight, bias = (getattr(norm, name).data[-count:] for name in PARTS)
    return BatchNormState(mean, var, weight, bias, norm.eps)


def gap_of_fresh(module: nn.Module, objective: Objective, fresh: dict[str, int]) -> float:
    """What the loss changes by if the fresh channels alone take each batch's own statistics."""

    def hook(count: int, norm: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        part = own_part(norm, count)
        own = F.batch_norm(
            args[0][:, -count:], None, None, part.weight, part.bias, training=True, eps=part.eps
        )
        return torch.cat([output[:, :-count], own], 1)

    running = objective.mean(module)
    handles = [
        module.get_submodule(name).register_forward_hook(partial(hook, n))
        for name, n in fresh.items()
    ]
    own = objective.mean(module)
    for handle in handles:
        handle.remove()
    return own - running


def one_seed(seed: int) -> dict[str, Any]:
    """Jumps by what was estimated when."""
    torch.manual_seed(seed)
    data, model = (
        load_data("digits", channels=3, size=32),
        torchvision.models.resnet18(num_classes=10),
    )
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    for _ in range(2):
        train_epoch(
            model,
            batches(data.train, 32, shuffle=True, generator=generator),
            cross_entropy,
            optimizer,
        )
    held = list(batches(data.train, 64, shuffle=True, generator=generator, limit=8))
    with evaluation_mode(model):
        before = batch_statistics_gap(model, Objective.of(held, cross_entropy, model))
    rows = {}
    for method, names in ((AsInserted, ("never", "end")), (Firefly, ("start", "start and end"))):
        growth = grow_step(
            model, held, cross_entropy,
            method=method(split=False), budget=Budget(neurons=0.05), options=StepOptions(seed=seed, example_inputs=INPUTS),
        )  # fmt: skip
        report, objective = growth.report, Objective.of(held, cross_entropy, growth.module)
        fresh = fresh_channels(growth)
        for name, module in zip(names, (unsettled(growth, fresh), growth.module), strict=True):
            with evaluation_mode(module):
                rows[name] = {
                    "loss_before": report.loss_before,
                    "loss_after": objective.mean(module),
                    "jump_before": before,
                    "jump_after": batch_statistics_gap(module, objective),
                    "jump_of_fresh": gap_of_fresh(module, objective, fresh),
                    "new": sum(width.new for width in report.widths),
                    "backtracks": report.backtracks,
                }
            print(f"seed {seed} {name:14s}", json.dumps(rows[name]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("docs/results/fresh_statistics.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for seed in range(args.seeds):
        results[f"seed {seed}"] = one_seed(seed)
        args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
