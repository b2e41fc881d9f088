"""The command: tune, run, compare; what is done already is read from its files."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tools.experiments.pays import __doc__ as description
from tools.experiments.pays import data, language
from tools.experiments.pays.files import read, write
from tools.experiments.pays.gain_picture import draw_gain
from tools.experiments.pays.picture import draw
from tools.experiments.pays.runs import errors_by_length, run_task
from tools.experiments.pays.tables import markdown
from tools.experiments.pays.tasks import TASKS


def main() -> None:
    """Run what is missing, and write the result and its picture."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=TASKS, action="append")
    parser.add_argument("--seeds", type=int, help="by default as many as each task says")
    parser.add_argument("--data-root", type=Path, default=data.DATA_ROOT)
    parser.add_argument("--parts", type=Path, default=Path("runs/pays"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/pays"))
    parser.add_argument(
        "--tables", action="store_true", help="only draw and write what the results say"
    )
    parser.add_argument(
        "--lengths",
        action="store_true",
        help="only see whether the tasks are long enough: errors after more and fewer steps",
    )
    chosen = parser.parse_args()
    data.DATA_ROOT = chosen.data_root
    if chosen.lengths:
        path = chosen.out / "lengths.json"
        known = read(path) if path.exists() else {}
        for name in chosen.task or TASKS:
            known[name] = errors_by_length(TASKS[name], chosen.parts)
            write(path, known)
        return
    for name in () if chosen.tables else chosen.task or TASKS:
        arms = run_task(TASKS[name], chosen.seeds or TASKS[name].seeds, chosen.parts)
        write(chosen.out / f"{name}.json", {"torch": torch.__version__, "arms": arms})
        print_table(name, arms)
    found = {path.stem: read(path)["arms"] for path in results(chosen.out)}
    draw({"tasks": found}, chosen.out / "pays.png")
    if language.DEEP.name in found:
        draw_gain(found[language.DEEP.name], chosen.out / "gain.png")
    (chosen.out / "README.md").write_text(markdown(found))


def results(folder: Path) -> Iterator[Path]:
    """The results that are there, in the order of the tasks."""
    for name in TASKS:
        path = folder / f"{name}.json"
        if path.exists():
            yield path


def print_table(name: str, arms: dict[str, dict[str, Any]]) -> None:
    """One line per arm."""
    for arm, told in arms.items():
        ratio = told["log_ratio"]
        print(
            f"{name:8} {arm:10} rate {told['rate']:<6} error {told['mean_error']:.5f}  "
            f"log ratio {ratio['mean']:+.3f} +- {ratio['standard_error']:.3f}  {told['verdict']:6} "
            f"search {told['search_share']:.2f}  {told['cpu_seconds']:.0f} s"
        )


if __name__ == "__main__":
    main()
