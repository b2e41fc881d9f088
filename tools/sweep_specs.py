"""Save, load, save again; load in a fresh process: all 80 torchvision classifiers, bit for bit.

    python -m tools.sweep_specs --out docs/results/specs.json     # resumable: models in the file are not done again

Per model: the two saves have the same bytes; a fresh process gives the same logits, bit for bit, and describing the
loaded graph there again gives the same fingerprint. At the end the seconds to load ResNet-152's spec without weights.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save_file

from fxgrow.capture import capture
from fxgrow.coupling import couple
from fxgrow.documents.tensor_files import read_tensors
from fxgrow.spec import describe, load, read_spec, save
from fxgrow.spec.build import fingerprint_of
from fxgrow.spec.meta_module import meta_module, write_architecture
from tools.sweep import calibrate, randomise
from tools.zoo.torchvision_zoo import CLASSIFIERS, ROWS

FILES = ("config.json", "model.safetensors")
REPEATS = 7


def write(name: str, directory: Path) -> dict[str, Any]:
    """Save a model, load it, save it again, and leave its input and logits beside it."""
    row = next(row for row in ROWS if row.name == name)
    torch.manual_seed(0)
    model = randomise(row.factory()).eval()
    inputs = row.inputs(torch.float32)
    calibrate(model, inputs)
    captured = capture(model, inputs)
    spec = describe(captured.graph_module, inputs, widths=couple(captured).widths)
    save(captured.graph_module, directory / "first", spec)
    with torch.no_grad():
        save_file({"x": inputs[0], "y": captured.graph_module(*inputs)}, directory / "io")
    del model, captured
    start = time.perf_counter()
    again = load(directory / "first")
    seconds = time.perf_counter() - start
    save(again, directory / "second")
    same = all(
        (directory / "first" / f).read_bytes() == (directory / "second" / f).read_bytes()
        for f in FILES
    )
    return {
        "parameters": spec.cost.parameters,
        "nodes": len(spec.nodes),
        "config_bytes": (directory / "first" / FILES[0]).stat().st_size,
        "load_seconds": round(seconds, 3),
        "same_bytes": same,
    }


@torch.no_grad()
def read(directory: Path) -> dict[str, bool]:
    """What a fresh process makes of what ``write`` left."""
    expected = read_tensors(directory / "io")
    model = load(directory / "first")
    spec = read_spec(directory / "first")
    return {
        "same_logits": torch.equal(model(expected["x"]), expected["y"]),
        "same_fingerprint": fingerprint_of(model, spec.inputs) == spec.fingerprint,
    }


def fresh(step: str, *words: str) -> dict[str, Any]:
    """One step in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tools.sweep_specs", step, *words],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def load_seconds(name: str) -> dict[str, Any]:
    """Seconds to read and check a spec, and to build its graph module too; no weights. Medians."""
    row = next(row for row in ROWS if row.name == name)
    inputs = row.inputs(torch.float32)
    with TemporaryDirectory() as folder:
        captured = capture(row.factory().eval(), inputs)
        spec = describe(captured.graph_module, inputs, widths=couple(captured).widths)
        write_architecture(Path(folder) / "spec", spec)
        read_spec(Path(folder) / "spec")
        times = []
        for _ in range(REPEATS):
            wall, cpu = time.perf_counter(), time.process_time()
            found = read_spec(Path(folder) / "spec")
            checked = time.perf_counter() - wall
            meta_module(found)
            times.append((checked, time.perf_counter() - wall, time.process_time() - cpu))
    read_only, built, cpu_built = (round(median(column), 3) for column in zip(*times, strict=True))
    return {
        "model": name,
        "read_s": read_only,
        "read_and_build_s": built,
        "read_and_build_cpu_s": cpu_built,
    }


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs/results/specs.json"))
    parser.add_argument("--only", nargs="*", default=CLASSIFIERS.split())
    parser.add_argument("--write", nargs=2, metavar=("NAME", "DIR"))
    parser.add_argument("--read", metavar="DIR")
    parser.add_argument("--seconds", metavar="NAME")
    chosen = parser.parse_args()
    if chosen.write:
        print(json.dumps(write(chosen.write[0], Path(chosen.write[1]))))
    elif chosen.read:
        print(json.dumps(read(Path(chosen.read))))
    elif chosen.seconds:
        print(json.dumps(load_seconds(chosen.seconds)))
    else:
        sweep(chosen.only, chosen.out)


def sweep(names: list[str], out: Path) -> None:
    known: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    rows: dict[str, Any] = known.get("models", {})
    for name in names:
        if name not in rows:
            with TemporaryDirectory() as folder:
                rows[name] = fresh("--write", name, folder)
                rows[name] |= {} if "error" in rows[name] else fresh("--read", folder)
            print(name, rows[name], flush=True)
            _write(out, rows, known.get("resnet152", {}))
    _write(out, rows, fresh("--seconds", "resnet152"))
    done = json.loads(out.read_text())
    print(done["summary"], done["resnet152"])


def _write(out: Path, rows: dict[str, Any], resnet: dict[str, Any]) -> None:
    checks = ("same_bytes", "same_logits", "same_fingerprint")
    summary = {check: sum(bool(row.get(check)) for row in rows.values()) for check in checks}
    versions = {"torch": torch.__version__, "fxgrow": fxgrow_version()}
    record = {
        "summary": {"models": len(rows), **summary},
        "resnet152": resnet,
        "versions": versions,
        "models": rows,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n")


def fxgrow_version() -> str:
    from importlib.metadata import version

    return version("fxgrow")


if __name__ == "__main__":
    main()
