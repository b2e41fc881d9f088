"""The search for silent wrong results: random networks of constructs, widened and grown.

    python -m tools.random_search --count 5000 --out docs/results/random.json

A network is ``kept`` if something was widened or grown and all that came of it is right, and
``refused`` if nothing came of it. It fails as ``wrong`` (another function, or one that breaks on
other batches) or ``foreign`` (an exception from fxgrow that is not fxgrow's). Network i is always
the same.
"""

import argparse
import json
import multiprocessing
import random
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow.growth import Budget, Growth
from fxgrow.methods import Firefly
from tests.construct_networks import CONSTRUCTS, OUT, TIME, network, sequences

BOUND = 1e-9
BATCHES = (3, 1, 6)
"""The batch of the example inputs, and others that must work as well."""
CHEAP = Firefly(new=1, steps=1, refine_steps=1, points=1)


def plan(number: int) -> tuple[list[str], int]:
    """The constructs and the seed of network ``number``."""
    rng = random.Random(number)
    count = rng.randint(1, 4)
    return rng.choices(sorted(CONSTRUCTS), k=count), rng.randrange(1000)


def judge(number: int) -> dict[str, Any]:
    """Build a network, widen and grow it, and say what came of it."""
    names, seed = plan(number)
    verdict: dict[str, Any] = {"number": number, "plan": names, "seed": seed, "refusals": []}
    verdict["results"] = 0
    started = time.process_time()
    try:
        failures = _failures(network(names, seed), verdict)
    except Exception as error:  # noqa: BLE001 - whatever comes is the verdict
        failures = [f"foreign: {type(error).__name__}: {error}"[:300]]
    verdict["failures"] = failures
    verdict["seconds"] = round(time.process_time() - started, 2)
    return verdict


def _failures(model: nn.Module, verdict: dict[str, Any]) -> list[str]:
    """What is wrong; refusals by fxgrow are noted in the verdict and are not wrong."""
    failures: list[str] = []
    try:
        coupling = fxgrow.couple(model, sequences(BATCHES[0]))
    except fxgrow.FxgrowError as error:
        verdict["refusals"].append(f"couple {error.code}")
        return failures
    amounts = {width.name: 1 for width in coupling.widths if width.growable}
    for how in ("split", "new"):
        for training in (False, True):
            if not amounts:
                continue
            _set_mode(model, training)
            try:
                wider = fxgrow.widen(model, amounts, sequences(BATCHES[0]), how=how).module
            except fxgrow.FxgrowError as error:
                verdict["refusals"].append(f"widen {error.code}")
                continue
            verdict["results"] += 1
            failures += _differences(model, wider, f"widen {how}, train {training}")
    model.eval()
    try:
        growth = fxgrow.grow(
            model, _growth_batches()[:1], F.mse_loss, method=CHEAP, budget=Budget(neurons=0.3)
        )
        verdict["results"] += 1
        failures += _faults_of(growth)
    except fxgrow.FxgrowError as error:
        verdict["refusals"].append(f"grow {error.code}")
    return failures


def _set_mode(model: nn.Module, training: bool) -> None:
    """Training mode without dropout, whose draws depend on the sizes."""
    model.train(training)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()


def _differences(model: nn.Module, wider: nn.Module, what: str) -> list[str]:
    found = []
    for batch in BATCHES:
        inputs = sequences(batch, seed=batch)
        expected, output = _call(model, inputs), _call_or_error(wider, inputs)
        if isinstance(output, str):
            found.append(f"wrong: {what}, batch {batch}: {output}")
            continue
        if output.shape != expected.shape:
            found.append(f"wrong: {what}, batch {batch}: shape {tuple(output.shape)}")
            continue
        change = float((output - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
        if not change < BOUND:
            found.append(f"wrong: {what}, batch {batch}: {change:.1e}")
    return found


@torch.no_grad()
def _call(model: nn.Module, inputs: Tensor) -> Tensor:
    torch.manual_seed(0)
    state = {name: tensor.clone() for name, tensor in model.named_buffers()}
    output: Tensor = model(inputs)
    for name, tensor in model.named_buffers():  # running statistics of a pass in training mode
        tensor.copy_(state[name])
    return output


def _call_or_error(module: nn.Module, inputs: Tensor) -> Tensor | str:
    """The output, or how a module that fxgrow gave back breaks."""
    try:
        return _call(module, inputs)
    except Exception as error:  # noqa: BLE001 - a broken model may raise anything
        return f"breaks: {type(error).__name__}: {error}"[:200]


def _growth_batches() -> list[tuple[Tensor, Tensor]]:
    batches = []
    for batch in BATCHES:
        target = torch.ones(batch, TIME, OUT, dtype=torch.float64)
        batches.append((sequences(batch, seed=10 + batch), target))
    return batches


def _faults_of(growth: Growth) -> list[str]:
    """Whether a grown model has the loss that was reported, and computes on any batch as its graph."""
    faults = []
    grown = growth.module.eval()
    for number, (inputs, target) in enumerate(_growth_batches()):
        output = _call_or_error(grown, inputs)
        if isinstance(output, str):
            faults.append(f"wrong: grow, batch {len(inputs)}: {output}")
            continue
        from_graph = _call_or_error(growth.graph_module, inputs)
        if isinstance(from_graph, str) and number > 0:
            continue  # a graph may refuse inputs on which the model would branch otherwise
        if isinstance(from_graph, str):
            faults.append(f"wrong: grow, batch {len(inputs)}, graph: {from_graph}")
            continue
        change = float((output - from_graph).abs().max())
        if not change < BOUND * float(output.abs().max()):
            faults.append(f"wrong: grow, batch {len(inputs)}, module and graph: {change:.1e}")
        loss, reported = float(F.mse_loss(output, target)), growth.report.loss_after
        if number == 0 and not abs(loss - reported) <= BOUND * abs(loss):
            faults.append(f"wrong: grow, loss {loss} is reported as {reported}")
    return faults


def _outcome(verdict: dict[str, Any]) -> str:
    if verdict["failures"]:
        return min(failure.partition(":")[0] for failure in verdict["failures"])
    return "kept" if verdict["results"] else "refused"


def _judge_quietly(number: int) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    return judge(number)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    outcomes: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    failed = []
    numbers = range(args.first, args.first + args.count)
    with multiprocessing.Pool(args.processes, maxtasksperchild=500) as pool:
        for verdict in pool.imap(_judge_quietly, numbers, chunksize=10):
            refusals.update(verdict["refusals"])
            if verdict["failures"]:
                found = {key: verdict[key] for key in ("number", "plan", "seed")}
                failed.append({**found, "failure": verdict["failures"][0]})
                print(
                    verdict["number"],
                    verdict["plan"],
                    verdict["seed"],
                    *verdict["failures"][:3],
                    sep=" | ",
                )
            outcomes[_outcome(verdict)] += 1
    result = {
        "command": f"python -m tools.random_search --count {args.count} --first {args.first}",
        "networks": args.count,
        "outcomes": dict(sorted(outcomes.items())),
        "refusals": dict(refusals.most_common()),
        "failed": failed,
    }
    print(json.dumps({key: result[key] for key in ("outcomes", "refusals")}, indent=1))
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
