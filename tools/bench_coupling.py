"""What it costs to find the neurons: fxgrow beside Torch-Pruning, and a 70-billion-parameter Llama.

    python -m tools.bench_coupling --out docs/results/bench_coupling.json           # all 121 models of torchvision
    python -m tools.bench_coupling resnet50 densenet201 --rounds 5
    python -m tools.bench_coupling --llama 8 16 32 64 80 --out docs/results/bench_coupling.json

fxgrow: tracing the model with torch.fx and ``fxgrow.couple`` on it, trial growth included (``capture`` also runs the
model beside its graph, which is not counted: Torch-Pruning checks nothing). Torch-Pruning: ``build_dependency`` and all
groups of convolutions and linear layers. Both on the same model and the same input (one image of side 224, or what the
model asks for), interleaved, process CPU seconds on one core, medians; every model in a process of its own. Random
weights, nothing is downloaded; Torch-Pruning is in the extra ``peers``.
"""

import argparse
import json
import multiprocessing
import resource
import signal
import statistics
import time
import warnings
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
import torchvision.models  # noqa: F401 - imported once, before the processes are forked
from torch import Tensor, nn

import fxgrow
from fxgrow.capture import Captured, How, PartReport, positional_inputs
from fxgrow.capture.trace import graph_of
from fxgrow.capture.tracer import Tracer
from tools.zoo.row import Row
from tools.zoo.torchvision_zoo import ROWS

LIMIT = 20
"""Seconds after which Torch-Pruning has not finished a model."""

LARGEST = 3.0
"""The bound on one model, in seconds."""


def ours(model: nn.Module, inputs: tuple[Any, ...]) -> int:
    """Trace and couple; the number of widths."""
    graph_module = graph_of(model, Tracer(model, inputs, {}, decide=False))
    captured = Captured(model, graph_module, inputs, (PartReport("", How.TRACED),))
    return len(fxgrow.couple(captured).widths)


def coupled(model: nn.Module, inputs: tuple[Any, ...]) -> int:
    """The same without a graph, for models that fx cannot trace."""
    return len(fxgrow.couple(model, inputs).widths)


def theirs(model: nn.Module, inputs: tuple[Any, ...]) -> int:
    """Torch-Pruning's graph and the number of its groups."""
    import torch_pruning

    graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=inputs)
    return sum(1 for _ in graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear]))


def timed(
    work: Callable[[nn.Module, tuple[Any, ...]], int], model: nn.Module, inputs: tuple[Any, ...]
) -> float:
    """Process CPU seconds."""
    start = time.process_time()
    work(model, inputs)
    return time.process_time() - start


def measure(row: Row, rounds: int) -> dict[str, Any]:
    """The medians of both, and why one of them is missing."""
    model = row.factory().eval()
    inputs = positional_inputs(
        model, row.inputs(torch.float32) if hasattr(model, "image_size") else _full_size(row)
    )
    mine, other, failed = [], [], ""
    work = ours
    try:
        ours(model, inputs)
    except Exception:  # noqa: BLE001 - whatever fx says about control flow: the model itself is coupled
        work = coupled
    for _ in range(rounds):
        mine.append(timed(work, model, inputs))
        if not failed:
            signal.alarm(LIMIT)
            try:
                other.append(timed(theirs, model, inputs))
            except BaseException as error:  # noqa: BLE001 - the alarm too
                failed = f"{type(error).__name__}: {str(error).splitlines()[0][:100] if str(error) else ''}"
            signal.alarm(0)
    return {
        "fxgrow": statistics.median(mine),
        "traced": work is ours,
        "torch_pruning": None if failed else statistics.median(other),
        "failed": failed,
    }


def _full_size(row: Row) -> Any:
    """The row's inputs; in place of a batch of small images one of side 224."""
    inputs = row.inputs(torch.float32)
    if (
        not isinstance(inputs, tuple)
        or len(inputs) != 1
        or not isinstance(inputs[0], Tensor)
        or inputs[0].dim() != 4
    ):
        return inputs
    side = max(224, inputs[0].shape[-1])
    return (torch.randn(1, 3, side, side),)


def _late(*_: Any) -> None:
    raise TimeoutError(f"over {LIMIT} s")


def _child(row: Row, rounds: int, pipe: Any) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _late)
    pipe.send(measure(row, rounds))


def apart(row: Row, rounds: int) -> dict[str, Any]:
    """The result of one model, in a process of its own."""
    here, there = multiprocessing.get_context("fork").Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_child, args=(row, rounds, there))
    process.start()
    there.close()
    try:
        found: dict[str, Any] = here.recv()
    except EOFError:
        found = {"fxgrow": None, "torch_pruning": None, "failed": "the process ended"}
    process.join()
    return found


def summary(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Ratios on the models that both finish."""
    both = [
        row
        for row in rows.values()
        if row["fxgrow"] is not None and row["torch_pruning"] is not None
    ]
    mine = [row["fxgrow"] for row in rows.values() if row["fxgrow"] is not None]
    found: dict[str, Any] = {
        "models": len(rows),
        "fxgrow finishes": len(mine),
        "both finish": len(both),
        "slowest": max(mine, default=0.0),
        "models above 3 s": [
            name for name, row in rows.items() if row["fxgrow"] and row["fxgrow"] > LARGEST
        ],
    }
    if both:
        sums = {key: sum(row[key] for row in both) for key in ("fxgrow", "torch_pruning")}
        found |= {
            "median fxgrow": statistics.median(row["fxgrow"] for row in both),
            "median torch_pruning": statistics.median(row["torch_pruning"] for row in both),
            "median ratio": statistics.median(row["fxgrow"] / row["torch_pruning"] for row in both),
            "sums": sums,
            "ratio of sums": sums["fxgrow"] / sums["torch_pruning"],
        }
    return found


def llama(layers: int) -> dict[str, Any]:
    """Llama-3 70B's widths with that many layers, on the meta device: parameters, seconds, peak memory."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 8192, "intermediate_size": 28672, "vocab_size": 128256}
    heads = {"num_attention_heads": 64, "num_key_value_heads": 8, "num_hidden_layers": layers}
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**sizes, **heads)).eval()
    wall, cpu = time.perf_counter(), time.process_time()
    coupling = fxgrow.couple(model, {"input_ids": torch.arange(16).unsqueeze(0)})
    return {
        "layers": layers,
        "parameters": sum(p.numel() for p in model.parameters()),
        "growable": sum(width.growable for width in coupling.widths),
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--llama", type=int, nargs="+", metavar="LAYERS", help="only this")
    parser.add_argument("--out", type=Path)
    parser.add_argument("models", nargs="*", help="patterns")
    args = parser.parse_args()
    found = json.loads(args.out.read_text()) if args.out and args.out.exists() else {}
    if args.llama:
        found["llama"] = [llama(layers) for layers in sorted(args.llama)]
        print(*found["llama"], sep="\n")
    else:
        import torch_pruning

        rows = {}
        for row in ROWS:
            if not args.models or any(fnmatch(row.name, pattern) for pattern in args.models):
                rows[row.name] = apart(row, args.rounds)
                print(f"{row.name:32s} {rows[row.name]}", flush=True)
        found["torchvision"] = {"summary": summary(rows), "models": rows}
        print(json.dumps(found["torchvision"]["summary"], indent=1))
        found["versions"] = {"torch": torch.__version__, "torch_pruning": torch_pruning.__version__}
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
