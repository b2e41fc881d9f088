"""Measures how the package is written, and fails when a figure is worse than its bound.

usage: python tools/style.py [--json FILE]

One row per figure: what it is, how it is counted, and the bound that CI holds. Bounds are only ever tightened. Lines
are lines that are not blank, as code, comment or docstring; comprehensions are lists, sets, dicts and generators.
"""

import argparse
import ast
import importlib
import inspect
import io
import json
import sys
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

PACKAGE = ROOT / "fxgrow"
LINE_LENGTH = 100
LONG_FUNCTION = 60
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DOCUMENTED_PACKAGES = ("fxgrow", "fxgrow.cells", "fxgrow.continual", "fxgrow.training")
"""Packages whose ``__all__`` must be documented in full."""


@dataclass(frozen=True)
class Source:
    """One file of the package: its text, its lines that are not blank, its syntax tree."""

    path: Path
    text: str
    lines: tuple[str, ...]
    tree: ast.Module

    @staticmethod
    def read(path: Path) -> "Source":
        """Read and parse one file."""
        text = path.read_text(encoding="utf-8")
        lines = tuple(line for line in text.splitlines() if line.strip())
        return Source(path, text, lines, ast.parse(text))

    @property
    def module(self) -> str:
        """The dotted name of the module."""
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(part for part in parts if part != "__init__")


Sources = tuple[Source, ...]


def sources() -> Sources:
    """Every file of the package."""
    return tuple(Source.read(path) for path in sorted(PACKAGE.rglob("*.py")))


def per_hundred_lines(count: int, files: Sources) -> float:
    """A count as a rate over all lines that are not blank."""
    total = sum(len(file.lines) for file in files)
    return round(100 * count / total, 2)


def function_lengths(files: Sources) -> list[int]:
    """The lines of every function, shortest first."""
    lengths = []
    for file in files:
        for node in ast.walk(file.tree):
            if isinstance(node, FUNCTIONS):
                lengths.append((node.end_lineno or node.lineno) - node.lineno + 1)
    return sorted(lengths)


def function_median(files: Sources) -> float:
    """Half of the functions are shorter than this."""
    return median(function_lengths(files))


def function_p90(files: Sources) -> float:
    """Nine of ten functions are not longer than this."""
    lengths = function_lengths(files)
    return lengths[int(0.9 * len(lengths))]


def function_max(files: Sources) -> float:
    """The longest function."""
    return function_lengths(files)[-1]


def long_functions(files: Sources) -> float:
    """Functions over sixty lines, in percent."""
    lengths = function_lengths(files)
    return round(100 * sum(length > LONG_FUNCTION for length in lengths) / len(lengths), 2)


def comprehensions(files: Sources) -> float:
    """Comprehensions per hundred lines."""
    found = 0
    for file in files:
        found += sum(isinstance(node, COMPREHENSIONS) for node in ast.walk(file.tree))
    return per_hundred_lines(found, files)


def nested_comprehensions(files: Sources) -> float:
    """Comprehensions inside another one, or over several ``for`` clauses, per hundred lines."""
    found = sum(_nested(file.tree, inside=False) for file in files)
    return per_hundred_lines(found, files)


def _nested(node: ast.AST, *, inside: bool) -> int:
    is_comprehension = isinstance(node, COMPREHENSIONS)
    several = is_comprehension and len(node.generators) > 1  # type: ignore[attr-defined]
    found = int(is_comprehension and (inside or several))
    for child in ast.iter_child_nodes(node):
        found += _nested(child, inside=inside or is_comprehension)
    return found


def long_lines(files: Sources) -> float:
    """Lines over a hundred characters, in percent."""
    found = 0
    for file in files:
        found += sum(len(line) > LINE_LENGTH for line in file.lines)
    return per_hundred_lines(found, files)


def comments(files: Sources) -> float:
    """Comments per hundred lines."""
    found = 0
    for file in files:
        tokens = tokenize.generate_tokens(io.StringIO(file.text).readline)
        found += sum(token.type == tokenize.COMMENT for token in tokens)
    return per_hundred_lines(found, files)


def repeated_names(files: Sources) -> float:
    """Public module-level names that two or more modules define."""
    return len(repeated_public_names(files))


def repeated_public_names(files: Sources) -> list[str]:
    """Those names, in alphabetical order."""
    modules: Counter[str] = Counter()
    for file in files:
        modules.update(set(_public_definitions(file.tree)))
    return sorted(name for name, count in modules.items() if count > 1)


def _public_definitions(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            names = []
        yield from (name for name in names if not name.startswith("_"))


def deep_imports(files: Sources) -> float:
    """Imports that reach past the ``__init__`` of another package."""
    return len(list(imports_past_init(files)))


def imports_past_init(files: Sources) -> Iterator[str]:
    """Those imports, each as ``importing module: imported module``."""
    for file in files:
        own_package = ".".join(file.module.split(".")[:2])
        for node in ast.walk(file.tree):
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            parts = node.module.split(".")
            is_deep = parts[0] == "fxgrow" and len(parts) > 2
            if is_deep and ".".join(parts[:2]) != own_package:
                yield f"{file.module}: {node.module}"


def growth_pipelines(files: Sources) -> float:
    """Packages that build an over-grown graph themselves: each would be a growth pipeline of its own."""
    packages = set()
    for file in files:
        for node in ast.walk(file.tree):
            is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            if is_call and node.func.id == "overgrow":  # type: ignore[attr-defined]
                packages.add(file.module.split(".")[1])
    return len(packages - {"rewrite"})


def undocumented(_: Sources) -> float:
    """Public functions and classes without the sections that they need, in percent."""
    names = [f"{package}.{name}" for package in DOCUMENTED_PACKAGES for name in _exported(package)]
    missing = list(missing_sections())
    return round(100 * len(missing) / len(names), 2)


def missing_sections() -> Iterator[str]:
    """Each public object that lacks a section, and which sections these are."""
    for package in DOCUMENTED_PACKAGES:
        module = importlib.import_module(package)
        for name in _exported(package):
            item = getattr(module, name)
            lacking = [
                section for section in _needed(item) if f"{section}:" not in (item.__doc__ or "")
            ]
            if lacking:
                yield f"{package}.{name}: {', '.join(lacking)}"


def _exported(package: str) -> list[str]:
    """What a package exports that can have sections: no constants, type aliases or errors."""
    module = importlib.import_module(package)
    names = []
    for name in module.__all__:
        item = getattr(module, name)
        is_error = inspect.isclass(item) and issubclass(item, Exception)
        if (inspect.isclass(item) or inspect.isfunction(item)) and not is_error:
            names.append(name)
    return names


def _needed(item: Any) -> list[str]:
    """The sections that a docstring of this function or class needs."""
    if inspect.isclass(item):
        # typing gives every protocol an __init__, which nobody calls.
        has_init = "__init__" in vars(item) and not getattr(item, "_is_protocol", False)
        has_fields = bool(getattr(item, "__annotations__", {}) or has_init)
        return ["Args", "Example"] if has_fields else ["Example"]
    signature = inspect.signature(item)
    sections = ["Example"]
    if signature.parameters:
        sections.append("Args")
    if signature.return_annotation not in (None, "None", inspect.Signature.empty):
        sections.append("Returns")
    return sections


@dataclass(frozen=True)
class Figure:
    """One row: how it is counted, and its bound (``at_least``: the bound is from below)."""

    count: Callable[[Sources], float]
    bound: float
    at_least: bool = False

    def holds(self, value: float) -> bool:
        """Whether a value is within the bound."""
        return value >= self.bound if self.at_least else value <= self.bound


FIGURES: dict[str, Figure] = {
    "function lines, median": Figure(function_median, 12),
    "function lines, 90 %": Figure(function_p90, 25),
    "function lines, longest": Figure(function_max, 60),
    "functions over 60 lines, %": Figure(long_functions, 0),
    "comprehensions per 100 lines": Figure(comprehensions, 3),
    "nested comprehensions per 100 lines": Figure(nested_comprehensions, 0.1),
    "lines over 100 characters, %": Figure(long_lines, 3),
    "comments per 100 lines": Figure(comments, 3, at_least=True),
    "public API without sections, %": Figure(undocumented, 0),
    "public names in several modules": Figure(repeated_names, 20),
    "imports past another __init__": Figure(deep_imports, 0),
    "growth pipelines": Figure(growth_pipelines, 1),
}
"""The table of the house, in the order in which it is printed."""


def measure() -> dict[str, float]:
    """The value of every figure."""
    files = sources()
    return {name: figure.count(files) for name, figure in FIGURES.items()}


def main() -> int:
    """Print the table; 1 if some figure is out of bounds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--list", action="store_true", help="name the offenders")
    arguments = parser.parse_args()
    values = measure()
    for name, value in values.items():
        figure = FIGURES[name]
        sign = ">=" if figure.at_least else "<="
        verdict = "" if figure.holds(value) else "   OUT OF BOUNDS"
        print(f"{name:38} {value:8g}   {sign} {figure.bound:g}{verdict}")
    if arguments.list:
        for line in (
            *repeated_public_names(sources()),
            *imports_past_init(sources()),
            *missing_sections(),
        ):
            print(f"  {line}")
    if arguments.json:
        arguments.json.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return int(not all(FIGURES[name].holds(value) for name, value in values.items()))


if __name__ == "__main__":
    sys.exit(main())
