"""The tables of what the sweep found: specs/coverage.{json,md} and specs/growth.{json,md} from runs/sweep.

    python -m tools.coverage

A model without a line in the logs keeps the one that the tables have; each line names the commit that it was run on.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tools.sweep import BOUND, BOUNDS, LOGS, NOT_HIDDEN, logged

OUT = Path("specs")
ZOOS = (
    "torchvision",
    "lowered",
    "torchvision-lowered",
    "timm",
    "timm-lowered",
    "hf",
    "hf-lowered",
    "random",
)
Line = dict[str, Any]


def summary(lines: Sequence[Line]) -> Line:
    """Counts over the rows of one zoo."""
    hidden, growable = (sum(line[key] for line in lines) for key in ("hidden", "growable"))
    refusals: Counter[str] = sum((Counter(line["refusals"]) for line in lines), Counter())
    return {
        "models": len(lines),
        **{
            status: sum(line["status"] == status for line in lines)
            for status in ("ok", "differs", "fails")
        },
        "widths": sum(line["widths"] for line in lines),
        "growable": growable,
        "neurons": sum(line["neurons"] for line in lines),
        "hidden share growable": growable / hidden if hidden else 1.0,
        "refusals": dict(sorted(refusals.items())),
        "unknown operators": sorted({one for line in lines for one in line["unknown"]}),
        "largest error": max((worst(line) for line in lines), default=0.0),
        "slowest coupling": max((line["seconds_couple"] for line in lines), default=0.0),
    }


def worst(line: Line) -> float:
    """The larger error of split and new neurons."""
    return max(line["errors"].values(), default=0.0)


def row(line: Line) -> str:
    """One line of the Markdown table."""
    refusals = ", ".join(f"{code} {count}" for code, count in line["refusals"].items())
    remark = "; ".join(
        filter(None, (line["note"], line["message"].split("\n")[0][:120].replace("|", "/")))
    )
    return (
        f"| {line['name']} | {line['family']} | {line['status']} | {line['growable']} of {line['widths']} "
        f"| {line['neurons']} | {line['growable']} of {line['hidden']} | {refusals} | {line['seconds_couple']:.1f} "
        f"| {line['seconds']:.0f} | {worst(line):.0e} | {remark} |"
    )


def with_lowered(lines: Sequence[Line], lowered: Sequence[Line]) -> Line:
    """The summary of a zoo if each model is lowered of which that makes more widths grow.

    Args:
        lines: the rows of the zoo.
        lowered: the rows of the lowered models that were run.

    Returns:
        As ``summary``.
    """
    better = {line["name"].removesuffix(" lowered"): line for line in lowered}
    chosen = []
    for line in lines:
        other = better.get(line["name"], line)
        is_better = other["status"] == "ok" and _refused(other) < _refused(line)
        chosen.append(other if is_better else line)
    return summary(chosen)


def _refused(line: Line) -> int:
    """How many hidden widths of a model do not grow."""
    return int(line["hidden"] - line["growable"])


def section(zoo: str, lines: Sequence[Line]) -> list[str]:
    """The summary of a zoo and its rows; of the random networks only those that are not ok."""
    found = summary(lines)
    shown = [line for line in lines if zoo != "random" or line["status"] != "ok"]
    counts = ", ".join(f"{found[status]} {status}" for status in ("ok", "differs", "fails"))
    text = [
        f"## {zoo}",
        "",
        f"{found['models']} models: {counts}. {found['growable']} of {found['widths']} widths grow "
        f"({found['neurons']} neurons), {found['hidden share growable']:.1%} of the hidden ones. Largest error "
        f"{found['largest error']:.0e}. Unknown operators: {', '.join(found['unknown operators']) or 'none'}. "
        f"Run on {states(lines)}.",
        "",
    ]
    head = "| model | family | status | widths | neurons | hidden | refusals | couple s | s | error | remark |"
    return [*text, head, "|" + "---|" * 11, *map(row, shown), ""] if shown else text


def lowered_section(zoo: str, zoos: Mapping[str, Sequence[Line]]) -> list[str]:
    """What lowering does for the share of a whole zoo."""
    base = zoo.removesuffix("-lowered")
    share = with_lowered(zoos.get(base, ()), zoos[zoo])["hidden share growable"]
    return [f"Of all hidden widths of {base} {share:.1%} grow, some models lowered.", ""]


def growth_section(zoo: str, lines: Sequence[Line]) -> list[str]:
    """How many models of a zoo ``grow`` grows once, and why not the others."""
    grown = sum(line["status"] == "ok" for line in lines)
    counts = f"{grown} of {len(lines)} models grow. Run on {states(lines)}."
    text = [f"## {zoo}, grown", "", counts, ""]
    others = [line for line in lines if line["status"] != "ok"]
    if not others:
        return text
    reasons = []
    for line in others:
        reason = line["message"].split("\n")[0].replace("|", "/") or "no width can grow"
        reasons.append(f"| {line['name']} | {line['growable']} | {reason} |")
    return [*text, "| model | growable widths | why it does not |", "|---|---|---|", *reasons, ""]


def states(lines: Sequence[Line]) -> str:
    """On which commits the models were run, and how many on each."""
    counts = Counter(line.get("state") or "an older state" for line in lines)
    return ", ".join(f"{state} ({count})" for state, count in counts.most_common())


def with_known(known: Sequence[Line], logged_lines: Mapping[str, Line]) -> list[Line]:
    """The lines of a zoo: those of a table, each replaced by that of the log where there is one."""
    return list({**{line["name"]: line for line in known}, **logged_lines}.values())


def growths(logs: Path, known: Mapping[str, Sequence[Line]]) -> dict[str, list[Line]]:
    """The lines of ``--check grow`` by zoo."""
    found = {}
    for zoo in ZOOS:
        lines = with_known(known.get(zoo, ()), logged(logs / f"{zoo}-grow.jsonl"))
        if lines:
            found[zoo] = lines
    return found


def write_growths(logs: Path, out: Path) -> None:
    """Write growth.json and growth.md, if a model was grown."""
    grown = growths(logs, _read(out / "growth.json"))
    if not grown:
        return
    kept = ("name", "status", "growable", "message", "note", "seconds", "state")
    records = {}
    for zoo, models in grown.items():
        records[zoo] = [{key: line.get(key, "") for key in kept} for line in models]
    (out / "growth.json").write_text(json.dumps(records, indent=1) + "\n")
    text = [
        "# Growth of whole zoos",
        "",
        "Written by `make sweep`: every model grown once by `fxgrow.grow` in float64, as cheaply as that can be done. It checks itself",
        "that the function is kept and that the grown model is the over-grown graph.",
        "",
    ]
    lines = [line for zoo in grown for line in growth_section(zoo, grown[zoo])]
    (out / "growth.md").write_text("\n".join([*text, *lines]).rstrip() + "\n")


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else {}


def write(logs: Path, out: Path) -> None:
    """Write the files from the logs that there are; those of a check that was not run stay."""
    write_growths(logs, out)
    known = {zoo: part["rows"] for zoo, part in _read(out / "coverage.json").items()}
    zoos = {}
    for zoo in ZOOS:
        models = with_known(known.get(zoo, ()), logged(logs / f"{zoo}.jsonl"))
        if models:
            zoos[zoo] = models
    if not zoos:
        return
    found = {
        zoo: {"summary": summary(lines), "rows": [] if zoo == "random" else lines}
        for zoo, lines in zoos.items()
    }
    (out / "coverage.json").write_text(json.dumps(found, indent=1) + "\n")
    text = [
        "# Coverage",
        "",
        "Written by `make sweep`. Every growable width widened at once, by split and by new neurons, random weights in",
        f"float64: *ok* means that the output is kept to {BOUND:g} relative, and that modules know their new sizes.",
        f"Models that run in float32 alone (their notes say so) are tried in that: kept to {BOUNDS[torch.float32]:g}.",
        f"*hidden*: growable widths among those not refused for {', '.join(sorted(NOT_HIDDEN))}.",
        "",
    ]
    lines = []
    for zoo, models in zoos.items():
        lines += section(zoo, models)
        if zoo.removesuffix("-lowered") != zoo:
            lines += lowered_section(zoo, zoos)
    (out / "coverage.md").write_text("\n".join([*text, *lines]).rstrip() + "\n")


if __name__ == "__main__":
    write(LOGS, OUT)
