"""Does the growth of ``make demo`` pay? The same network grown and not grown, trained equally long, in one table.

    python -m tools.experiments.demo --out docs/results/demo.json

Model, data and settings are those of ``specs/recipes/demo.yaml``; every seed draws other weights, another order of the
images and other candidates. Arms of one seed:

- *not grown*: as many training steps as the grown network.
- *not grown, equal time*: as many epochs as fit into the processor time of the grown run, with its searches, checks
  and evaluations, by the time of an epoch of the arm above.
- *grown*: the recipe.
- *final size*: the widths that *grown* ended with, from fresh weights, for as many training steps. Growth goes on
  from a network that is there; whether it is better than to know the size before is another question.
"""

import argparse
import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor, nn

from fxgrow.cli.model_and_data import load_model_and_data
from fxgrow.cli.trust import trust_modules
from fxgrow.data import Splits
from fxgrow.randomness import seeded
from fxgrow.training import Recipe, Run, read_recipe, train_and_grow

RECIPE = Path(__file__).parents[2] / "specs" / "recipes" / "demo.yaml"
NOT_GROWN, EQUAL_TIME, GROWN, FINAL_SIZE = (
    "not grown",
    "not grown, equal time",
    "grown",
    "final size",
)


@dataclass(frozen=True)
class Outcome:
    """One training run: what it cost, and how well the network does on the test images."""

    arm: str
    seed: int
    parameters: int
    steps: int
    cpu_seconds: float
    accuracy: float
    loss: float


def train(
    arm: str, recipe: Recipe, model: nn.Module, data: Splits, inputs: tuple[Tensor, ...]
) -> tuple[Outcome, Run]:
    """Train as a recipe says, from a given model on."""
    settings = recipe.settings
    start = time.process_time()
    run = train_and_grow(
        model,
        data,
        settings,
        example_inputs=inputs,
        method=recipe.method.settings,
        budget=recipe.budget,
    )
    taken = time.process_time() - start
    steps = settings.epochs * math.ceil(len(data.train) / settings.batch_size)
    test = run.after.test
    outcome = Outcome(
        arm, settings.seed, run.after.parameters, steps, round(taken, 2), test.accuracy, test.loss
    )
    return outcome, run


def with_settings(recipe: Recipe, **changes: int) -> Recipe:
    """The recipe with other settings."""
    settings = recipe.settings.model_copy(update=changes)
    return recipe.model_copy(update={"settings": settings})


def redrawn(model: nn.Module, seed: int) -> nn.Module:
    """A copy of a model with fresh weights."""
    fresh = copy.deepcopy(model)
    with seeded(seed):
        for module in fresh.modules():
            if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear)):
                module.reset_parameters()
    return fresh


def outcomes(recipe: Recipe, seed: int) -> Iterator[Outcome]:
    """All arms of one seed, as they end."""
    recipe = with_settings(recipe, seed=seed)
    trust = trust_modules(["tools.networks"])
    loaded, data = load_model_and_data(recipe.model, recipe.data, seed=seed, trust=trust)
    inputs = loaded.example_inputs
    plain = with_settings(recipe, grow_steps=0)
    not_grown, _ = train(NOT_GROWN, plain, loaded.model, data, inputs)
    yield not_grown
    grown, run = train(GROWN, recipe, loaded.model, data, inputs)
    yield grown
    epochs = math.ceil(plain.settings.epochs * grown.cpu_seconds / not_grown.cpu_seconds)
    longer = with_settings(plain, epochs=max(epochs, plain.settings.epochs))
    yield train(EQUAL_TIME, longer, loaded.model, data, inputs)[0]
    yield train(FINAL_SIZE, plain, redrawn(run.final.module, seed), data, inputs)[0]


def row(outcome: Outcome) -> str:
    """An outcome as a line of progress."""
    return (
        f"seed {outcome.seed}, {outcome.arm}: {outcome.parameters:,} parameters, {outcome.steps:,} steps, "
        f"{outcome.cpu_seconds:.1f} s, test accuracy {outcome.accuracy:.1%}, loss {outcome.loss:.3f}"
    )


def table(found: list[Outcome]) -> Iterator[str]:
    """Means over the seeds, one line for each arm, accuracies of every seed behind them."""
    yield f"{'':22} {'parameters':>10} {'steps':>6} {'CPU s':>6} {'accuracy':>9} {'loss':>6}  by seed"
    for arm in (NOT_GROWN, EQUAL_TIME, GROWN, FINAL_SIZE):
        mine = [outcome for outcome in found if outcome.arm == arm]

        def average(value: Callable[[Outcome], float], mine: list[Outcome] = mine) -> float:
            return mean(map(value, mine))

        seeds = " ".join(f"{outcome.accuracy:.1%}" for outcome in mine)
        yield (
            f"{arm:22} {average(lambda one: one.parameters):10,.0f} {average(lambda one: one.steps):6,.0f} "
            f"{average(lambda one: one.cpu_seconds):6.1f} {average(lambda one: one.accuracy):9.1%} "
            f"{average(lambda one: one.loss):6.3f}  {seeds}"
        )


def wins(found: list[Outcome], rival: str) -> str:
    """In how many seeds the grown network is better than a rival, by accuracy and by loss."""
    grown = [outcome for outcome in found if outcome.arm == GROWN]
    others = [outcome for outcome in found if outcome.arm == rival]
    pairs = list(zip(grown, others, strict=True))
    by_accuracy = sum(own.accuracy > other.accuracy for own, other in pairs)
    by_loss = sum(own.loss < other.loss for own, other in pairs)
    return f"{by_accuracy} of {len(pairs)} seeds by test accuracy, {by_loss} by test loss"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the network is tiny, and seconds of threads would add up
    recipe = read_recipe(RECIPE)
    found: list[Outcome] = []
    for seed in range(arguments.seeds):
        for outcome in outcomes(recipe, seed):
            print(row(outcome), flush=True)
            found.append(outcome)
    print("\nMeans over the seeds, on test images:\n")
    print("\n".join(table(found)))
    print(f"\nGrown is better than not grown: at equal steps in {wins(found, NOT_GROWN)};")
    print(f"in equal time in {wins(found, EQUAL_TIME)}.")
    if arguments.out is not None:
        text = json.dumps([asdict(outcome) for outcome in found], indent=1)
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
