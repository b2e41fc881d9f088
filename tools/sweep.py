"""Couple, widen everything, compare: what fxgrow does with real models. Random weights, nothing is downloaded.

    python -m tools.sweep --zoo torchvision --zoo timm          # one line of JSON per model into runs/sweep/
    python -m tools.sweep --zoo torchvision --only 'swin*' --resume
    python -m tools.sweep --zoo timm-lowered --only 'beit*'     # lowered on their inputs (fxgrow.lower) first
    python -m tools.sweep --zoo random --random 2000            # networks of constructs (tools.random_search)
    python -m tools.sweep --zoo timm --check grow               # one cheap growth of each
    python -m tools.sweep --zoo timm --check rewrite            # what widen grows and grow does not, and why
    python -m tools.coverage                                    # the table of all lines: specs/coverage.{json,md}

Every model is built in float64 with nothing constant left in it (two of torchvision in float32, their own code makes
tensors of that), coupled, and widened in every growable width at once, by split and by new neurons. ``ok``: the output
is kept to 1e-9 relative (in float32 to 1e-4) and the sizes that modules keep agree with their parameters; ``differs``:
it is not; ``silent``: it is, but some axis of a parameter is in no width and listed with no reason; ``refuses``:
nothing can grow; ``fails``: an exception, or the time limit. Each model runs in a process of its own, on one thread;
the random networks share one.

``--check grow`` grows each model once instead (of large models three widths): what ``fxgrow.grow`` promises
it checks itself. ``--check rewrite`` asks for candidates in every growable width, and counts what is refused by code,
operator and reason, for each model and for the whole zoo. Each check has logs of its own.
"""

import argparse
import json
import multiprocessing
import re
import subprocess
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatch
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_leaves, tree_map

import fxgrow
from fxgrow.coupling import AxisKey, Coupling, Width
from fxgrow.errors import Refusal
from fxgrow.rewrite import overgrow
from fxgrow.surgery import named_tensors
from tools import random_search
from tools.zoo import Row

BOUND = 1e-9
BOUNDS = {torch.float64: BOUND, torch.float32: 1e-4}
"""The relative change of the output that counts as rounding, by the dtype that a model is tried in."""
BLIND = 1e-6  # a smaller relative change of the output between two inputs means that comparing says little
LOGS = Path("runs/sweep")
MODULES = {"torchvision": "torchvision_zoo", "timm": "timm_zoo", "hf": "hf_zoo"}
LIBRARIES = {
    "torchvision": "torchvision.models",
    "lowered": "torchvision.models",
    "timm": "timm",
    "hf": "transformers",
}
FORK = multiprocessing.get_context("fork")  # libraries are imported once, for all models
LARGE = 50_000_000  # parameters: from here on a width gets two neurons more, not a third more
NOT_HIDDEN = {"output", "vocabulary", "fixed-size", "normalised", "reduced"}
"""Refusals of widths that are not hidden: outputs, words that are both input and output, what meets an input or a
constant, and normalised streams."""


@dataclass
class Result:
    """What one model gave.

    ``hidden``: widths not refused for a code of NOT_HIDDEN; ``error``: the largest relative change of the output;
    ``signal``: the relative change of the output from one input to another (equality says nothing where it is 0);
    ``state``: the commit that ran it, with a plus where something was not committed.
    """

    zoo: str
    name: str
    family: str
    status: str = "fails"
    message: str = ""
    note: str = ""
    parameters: int = 0
    widths: int = 0
    growable: int = 0
    neurons: int = 0
    hidden: int = 0
    refusals: dict[str, int] = field(default_factory=dict)
    hidden_refusals: dict[str, int] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    seconds_couple: float = 0.0
    seconds: float = 0.0
    errors: dict[str, float] = field(default_factory=dict)
    signal: float = 0.0
    sizes_agree: bool = True
    silent: list[str] = field(default_factory=list)
    captured: str = ""
    state: str = ""
    rewrite_refusals: dict[str, int] = field(default_factory=dict)


Check = Callable[[Row, Result], None]
"""Fills in the result of a model."""
FEW_WIDTHS = 5_000_000  # parameters: from here on only three widths of a model get candidates


def lowered_rows() -> tuple[Row, ...]:
    """The torchvision models whose fused attention ``fxgrow.lower`` takes apart."""
    fused = [row for row in rows("torchvision") if row.name.startswith(("vit_", "swin", "maxvit"))]
    return tuple(
        replace(row, name=f"{row.name} lowered", factory=partial(_lowered, row)) for row in fused
    )


def _lowered(row: Row) -> nn.Module:
    return fxgrow.lower(row.factory())


LOWERED_ZOOS = {f"{zoo}-lowered": zoo for zoo in MODULES}
"""Zoos whose models ``fxgrow.lower`` takes apart by what their example inputs show."""


def lowered_zoo(zoo: str) -> tuple[Row, ...]:
    """All models of a zoo, each lowered on the inputs that it is widened with."""
    lowered = []
    for row in rows(zoo):
        factory = partial(_lowered_on_inputs, row)
        lowered.append(replace(row, name=f"{row.name} lowered", factory=factory))
    return tuple(lowered)


def _lowered_on_inputs(row: Row) -> nn.Module:
    model = row.factory().to(row.dtype).eval()
    return fxgrow.lower(model, row.inputs(row.dtype))


def rows(zoo: str) -> tuple[Row, ...]:
    """The table of a zoo."""
    if zoo == "lowered":
        return lowered_rows()
    if zoo in LOWERED_ZOOS:
        return lowered_zoo(LOWERED_ZOOS[zoo])
    table: tuple[Row, ...] = import_module(f"tools.zoo.{MODULES[zoo]}").ROWS
    return table


def random_result(number: int) -> Result:
    """What came of one random network of constructs, by the judge of ``tools.random_search``."""
    verdict = random_search.judge(number)
    result = Result("random", str(number), " + ".join(verdict["plan"]))
    result.seconds = verdict["seconds"]
    result.message = "; ".join(verdict["failures"])[:500]
    if verdict["failures"]:
        result.status = "fails" if result.message.startswith("foreign") else "differs"
    else:
        result.status = "ok" if verdict["results"] else "refuses"
    result.note = ", ".join(sorted(set(verdict["refusals"])))
    return result


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Nothing constant is left in the model, so that equality says something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.is_floating_point()):
            if parameter.numel() == 1 or float(parameter.std()) < 1e-3:
                spread = 0.3 / max(1, parameter[0].numel() if parameter.dim() > 1 else 1) ** 0.5
                parameter.add_(
                    spread
                    * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
                )
    return model


@torch.no_grad()
def calibrate(model: nn.Module, inputs: Any) -> None:
    """Give batch norms the statistics of these inputs, each a little off: with others a deep net's signal dies out."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_var is not None]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train().momentum = 1.0
    with suppress(ValueError):  # one value per channel has no variance; then they stay as they are
        call(model, inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval().momentum = momentum
        norm.running_mean.add_(0.1 * norm.running_var.sqrt())
        norm.running_var.mul_(
            torch.linspace(0.7, 1.4, len(norm.running_var), dtype=norm.running_var.dtype)
        ).add_(1e-3)


def sizes_agree(model: nn.Module) -> bool:
    """Whether every convolution, linear layer and batch norm knows the size of its weight."""
    return all(
        (
            not isinstance(m, _ConvNd)
            or set(m.weight.shape[:2]) <= {m.out_channels, m.in_channels, *_per_group(m)}
        )
        and (not isinstance(m, nn.Linear) or m.weight.shape == (m.out_features, m.in_features))
        and (not isinstance(m, _BatchNorm) or m.weight is None or len(m.weight) == m.num_features)
        for m in model.modules()
    )


def _per_group(m: _ConvNd) -> tuple[int, int]:
    return m.in_channels // m.groups, m.out_channels // m.groups


def change(found: Any, expected: Any) -> float:
    """The largest relative difference of two outputs; infinite where shapes or whole numbers differ."""
    mine, theirs = (
        [leaf for leaf in tree_leaves(one) if isinstance(leaf, Tensor)] for one in (found, expected)
    )
    if [leaf.shape for leaf in mine] != [leaf.shape for leaf in theirs]:
        return float("inf")
    return max(
        (_relative(a, b) for a, b in zip(mine, theirs, strict=True) if b.numel()), default=0.0
    )


def _relative(a: Tensor, b: Tensor) -> float:
    if not b.is_floating_point():
        return 0.0 if torch.equal(a, b) else float("inf")
    finite = b.isfinite()
    if not torch.equal(a.isfinite(), finite) or not finite.any():
        return float("inf")
    return float((a - b)[finite].abs().max() / b[finite].abs().max().clamp(min=1e-300))


def measure(row: Row, result: Result) -> None:
    """Fill in ``result``; what is known when an exception passes through stays in it."""
    torch.manual_seed(0)
    model = randomise(row.factory().to(row.dtype)).eval()
    inputs = row.inputs(row.dtype)
    calibrate(model, row.inputs(row.dtype))
    result.parameters = sum(p.numel() for p in model.parameters())
    before = time.perf_counter()
    coupling = fxgrow.couple(model, inputs)
    result.seconds_couple = round(time.perf_counter() - before, 2)
    describe(coupling, result)
    result.silent = silent_axes(model, coupling)
    few = result.parameters > LARGE
    amounts = {
        w.name: min(w.size, 2) if few else max(1, w.size // 3)
        for w in coupling.widths
        if w.growable
    }
    result.note = "; ".join(filter(None, (row.note, "two more neurons per width" if few else "")))
    with torch.no_grad():
        expected = call(model.eval(), row.inputs(row.dtype))
        result.signal = change(call(model, shifted(inputs)), expected)
        if result.signal < BLIND:
            result.note = "; ".join(
                filter(None, (result.note, "its output hardly depends on its input"))
            )
        for how in ("split", "new") if amounts else ():
            wider = fxgrow.widen(model, amounts, inputs, how=how).module.eval()  # type: ignore[arg-type]
            result.errors[how] = change(call(wider, row.inputs(row.dtype)), expected)
            result.sizes_agree &= sizes_agree(wider)
            del wider
    kept = max(result.errors.values(), default=0.0) < BOUNDS[row.dtype] and result.sizes_agree
    result.status = ("silent" if result.silent else "ok") if kept else "differs"


def measure_grow(row: Row, result: Result) -> None:
    """Grow the model once, as cheaply as that can be done; ``grow`` raises what is wrong."""
    torch.manual_seed(0)
    model = randomise(row.factory().to(row.dtype)).eval()
    inputs = row.inputs(row.dtype)
    calibrate(model, row.inputs(row.dtype))
    result.parameters = sum(p.numel() for p in model.parameters())
    coupling = fxgrow.couple(model, inputs)
    describe(coupling, result)
    growable = [width for width in coupling.widths if width.growable]
    if not growable:
        result.status = "refuses"
        return
    only: list[str] = []
    if result.parameters > FEW_WIDTHS:
        chosen = {growable[0].name, growable[len(growable) // 2].name, growable[-1].name}
        only = sorted(name.partition("#")[0] for name in chosen)
        result.note = "; ".join(filter(None, (row.note, "three widths")))
    budget = fxgrow.Budget(neurons=max(1, round(0.02 * result.neurons)))
    try:
        growth = _grown_cheaply(model, inputs, budget, only)
    except fxgrow.GrowthError as error:
        if error.code != "unstable-model":
            raise
        # With random weights some channels are constant, which their own statistics blow up.
        result.note = "; ".join(filter(None, (result.note, "statistics as they were")))
        growth = _grown_cheaply(model, inputs, budget, only, refresh_statistics=False)
    call(growth.module.eval(), row.inputs(row.dtype))
    grown = sum(p.numel() for p in growth.module.parameters()) > result.parameters
    result.status = "ok" if grown else "refuses"


def _grown_cheaply(
    model: nn.Module, inputs: Any, budget: fxgrow.Budget, only: Sequence[str], **options: Any
) -> fxgrow.Growth:
    return fxgrow.grow(
        model,
        [inputs],
        fxgrow.BatchLoss(_mean_square),
        example_inputs=inputs,
        method=fxgrow.Firefly(new=1, steps=1, refine_steps=0, points=1),
        budget=budget,
        only=only,
        accept_no_gain=True,  # one step on one batch need not find any
        **options,
    )


def _mean_square(model: Any, inputs: Any) -> Tensor:
    """The mean square of all numbers that a model gives: a loss for any model."""
    output = call(model, inputs)
    numbers = [leaf.square().mean() for leaf in tree_leaves(output) if _floating(leaf)]
    return torch.stack([number.double() for number in numbers]).mean()


def measure_rewrite(row: Row, result: Result) -> None:
    """Ask for candidates in every growable width, and count what is refused by code, operator and reason."""
    torch.manual_seed(0)
    model = randomise(row.factory().float()).eval().requires_grad_(requires_grad=False)
    inputs = row.inputs(torch.float32)
    result.parameters = sum(p.numel() for p in model.parameters())
    captured = fxgrow.capture(model, inputs)
    result.captured = captured.how.value
    coupling = fxgrow.couple(captured)
    describe(coupling, result)
    growable = [number for number, width in enumerate(coupling.widths) if width.growable]
    if growable:
        new = dict.fromkeys(growable, 1)
        grown = overgrow(captured, coupling, growable, new, torch.Generator())
        graphs = (captured.graph_module, grown.graph_module)
        kinds = Counter(refusal_kind(refusal, graphs) for refusal in grown.refusals.values())
        result.rewrite_refusals = dict(sorted(kinds.items()))
    result.status = "ok" if not result.rewrite_refusals else "refuses"


def refusal_kind(refusal: Refusal, graphs: Sequence[fx.GraphModule]) -> str:
    """Code, operator and reason of a refusal, without the names that only this model has."""
    operators = [node_kind(graph, name) for name in refusal.nodes for graph in graphs]
    operator = next(filter(None, operators), "")
    reason = re.sub(r"\S+\.(weight|bias)\b", r"a \1", refusal.reason)
    reason = re.sub(r"\b\d+\b", "n", reason.partition("used by")[0])
    return f"{refusal.code} | {operator} | {reason[:80]}"


def node_kind(graph: fx.GraphModule, name: str) -> str:
    """What the node of this name calls."""
    for node in graph.graph.nodes:
        if node.name == name:
            if node.op == "call_module":
                return type(graph.get_submodule(str(node.target))).__name__
            return str(getattr(node.target, "__name__", node.target))
    return ""


def call(model: nn.Module, inputs: Any) -> Any:
    """The model's output on a tuple of arguments or a dict of keyword arguments; some draw numbers, always the same."""
    torch.manual_seed(0)
    return model(**inputs) if isinstance(inputs, dict) else model(*inputs)


def shifted(inputs: Any) -> Any:
    """Other inputs of the same shapes; whole numbers in another order."""
    return tree_map(
        lambda x: 0.5 * x + 0.1 if _floating(x) else x.flip(-1) if _words(x) else x, inputs
    )


def _words(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dim() > 0


def _floating(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()


def describe(coupling: Coupling, result: Result) -> None:
    """Count widths, neurons and refusals."""
    widths = coupling.widths
    codes = Counter(w.refusal.code for w in widths if w.refusal)
    result.widths, result.growable = len(widths), sum(w.growable for w in widths)
    result.neurons = sum(w.size for w in widths if w.growable)
    result.refusals = dict(sorted(codes.items()))
    result.hidden = sum(_hidden(w) for w in widths)
    result.hidden_refusals = {
        code: n for code, n in result.refusals.items() if code not in NOT_HIDDEN
    }
    result.unknown = sorted(
        {w.refusal.reason for w in widths if w.refusal and w.refusal.code == "unknown-operator"}
    )


def silent_axes(model: nn.Module, coupling: Coupling) -> list[str]:
    """The axes some of whose indices are in no width and listed with no reason."""
    listed = {axis.key: axis.size for axis in coupling.fixed_axes}
    silent = []
    for name, tensor in named_tensors(model).items():
        for axis, size in enumerate(tensor.shape):
            owners = coupling.owners.get((name, axis))
            owned = 0 if owners is None else int((owners.width >= 0).sum())
            if owned + listed.get(AxisKey(name, axis), 0) != size:
                silent.append(f"{name}[{axis}]")
    return silent


def _hidden(width: Width) -> bool:
    return width.refusal is None or width.refusal.code not in NOT_HIDDEN


def run_one(zoo: str, row: Row, check: Check = measure) -> Result:
    """The result of one model, in this process."""
    result = Result(zoo, row.name, row.family, note=row.note, state=state())
    start = time.perf_counter()
    try:
        check(row, result)
    except Exception as error:  # noqa: BLE001 - whatever a model or fxgrow raises is the row's result
        result.message = f"{type(error).__name__}: {error}"[:500]
    result.seconds = round(time.perf_counter() - start, 1)
    return result


def run_apart(zoo: str, row: Row, limit: int, check: Check = measure) -> dict[str, Any]:
    """The result of one model, in a process of its own that is ended after ``limit`` seconds."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "row.json")
        process = FORK.Process(target=_child, args=(zoo, row, path, check))
        process.start()
        process.join(limit)
        late = process.is_alive()
        process.kill()
        process.join()
        if path.exists() and not late:
            found: dict[str, Any] = json.loads(path.read_text())
            return found
    why = f"not done after {limit} s" if late else f"the process ended with {process.exitcode}"
    return asdict(
        Result(
            zoo,
            row.name,
            row.family,
            message=why,
            note=row.note,
            seconds=limit if late else 0,
            state=state(),
        )
    )


@cache
def state() -> str:
    """The commit of this checkout; "" outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip()


def _child(zoo: str, row: Row, path: Path, check: Check) -> None:
    warnings.simplefilter("ignore")
    path.write_text(json.dumps(asdict(run_one(zoo, row, check))))


def logged(path: Path) -> dict[str, dict[str, Any]]:
    """The last line of each model in a log."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {line["name"]: line for line in map(json.loads, lines)}


def sweep(args: argparse.Namespace, zoo: str) -> None:
    """Run the rows of a zoo and append their results to its log."""
    path = LOGS / (f"{zoo}.jsonl" if args.check == "widen" else f"{zoo}-{args.check}.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not args.resume and not args.only:
        path.unlink(missing_ok=True)
    done = (
        {name for name, line in logged(path).items() if line["status"] == "ok"}
        if args.resume
        else set()
    )
    for name, line in results(args, zoo, done):
        with path.open("a") as log:
            log.write(json.dumps(line) + "\n")
        worst = max(line["errors"].values(), default=0.0)
        print(
            f"{line['status']:8s} {name:40s} {line['growable']:4d} of {line['widths']:4d} widths  {worst:.0e}"
            f"  couple {line['seconds_couple']:5.1f} s  {line['seconds']:6.1f} s  {line['hidden_refusals']}"
            f" {line['message'][:150]}",
            flush=True,
        )
        for kind, count in line["rewrite_refusals"].items():
            print(f"         {count:4d}  {kind}", flush=True)
    if args.check == "rewrite":
        print_rewrite_refusals(zoo, list(logged(path).values()))


def print_rewrite_refusals(zoo: str, lines: Sequence[dict[str, Any]]) -> None:
    """What is refused in a whole zoo: how many widths, in how many models, for what."""
    widths: Counter[str] = Counter()
    models: Counter[str] = Counter()
    for line in lines:
        widths.update(line["rewrite_refusals"])
        models.update(line["rewrite_refusals"].keys())
    growable = sum(line["growable"] for line in lines)
    print(f"{zoo}: {widths.total()} of {growable} growable widths without all candidates")
    for kind, count in widths.most_common():
        print(f"{count:6d} widths  {models[kind]:4d} models  {kind}")


CHECKS: dict[str, Check] = {"widen": measure, "grow": measure_grow, "rewrite": measure_rewrite}


def results(
    args: argparse.Namespace, zoo: str, done: set[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The names of what was asked for in a zoo and is not done yet, one after the other with their results."""
    if zoo == "random":
        for number in range(args.random):
            yield str(number), asdict(random_result(number))
        return
    import_module(LIBRARIES[LOWERED_ZOOS.get(zoo, zoo)])
    for row in rows(zoo):
        if row.name not in done and (
            not args.only or any(fnmatch(row.name, one) for one in args.only)
        ):
            yield row.name, run_apart(zoo, row, args.limit, CHECKS[args.check])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--zoo",
        action="append",
        choices=[*MODULES, "lowered", *LOWERED_ZOOS, "random"],
        required=True,
    )
    parser.add_argument(
        "--only", action="append", metavar="PATTERN", help="only models whose name matches"
    )
    parser.add_argument(
        "--resume", action="store_true", help="keep the log, and skip what is ok in it"
    )
    parser.add_argument(
        "--random", type=int, default=2000, metavar="N", help="number of random networks"
    )
    parser.add_argument("--limit", type=int, default=300, help="seconds per model")
    parser.add_argument(
        "--check", choices=CHECKS, default="widen", help="what is done with each model"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    for zoo in args.zoo:
        sweep(args, zoo)


if __name__ == "__main__":
    main()
