"""Which names a source may use for what, and what it has to import for them."""

import ast
import builtins
import re
from collections.abc import Iterator

from fxgrow.errors import ExportError
from fxgrow.export.python.layout import LINE_WIDTH, Bracket, code_lines
from fxgrow.spec import ArchitectureSpec

# The first prefix that fits says how functions and classes are written; those of torchvision are imported by name.
_PREFIXES = (
    ("torch.nn.functional.", "F."),
    ("torch.nn.", "nn."),
    ("torch.", "torch."),
    ("builtins.", ""),
    ("math.", "math."),
    ("operator.", "operator."),
)
_STANDARD = ("math", "operator")
_TORCH = {
    "torch": "import torch",
    "nn": "from torch import nn",
    "F": "from torch.nn import functional as F",
}
GLOBALS = frozenset(
    (*dir(builtins), "torch", "nn", "F", "math", "operator", "self", "Network", "TIED")
)


class Names:
    """The names of one source: how it writes functions and classes, and the imports that this takes."""

    def __init__(self, spec: ArchitectureSpec) -> None:
        self._vision: dict[str, set[str]] = {}
        called = {node.target for node in spec.nodes if node.op == "call_function"}
        vision = {
            name
            for name in (*called, *(item.type for item in spec.modules))
            if _of_torchvision(name)
        }
        self.taken = GLOBALS | {name.rpartition(".")[2] for name in vision}

    def public(self, name: str) -> str:
        """How the source writes a function or class that a spec names; ``ExportError("no-source")`` for a foreign one.

        >>> Names(spec).public("torch.nn.functional.relu")
        'F.relu'
        """
        for prefix, written in _PREFIXES:
            if name.startswith(prefix):
                return written + name.removeprefix(prefix)
        module, _, short = name.rpartition(".")
        if not _of_torchvision(name):
            raise ExportError(
                "no-source",
                f"{name} is no part of torch or torchvision, so a file of its own cannot hold the model",
            )
        self._vision.setdefault(module, set()).add(short)
        return short

    def of_class(self, path: str) -> str:
        """A new name for the class of a container: ``Layer1_0`` for ``layer1.0``."""
        parts = (re.sub(r"\W", "_", part, flags=re.ASCII) for part in path.split("."))
        wanted = "_".join(part[:1].upper() + part[1:] for part in parts)
        return self._new(wanted if not wanted[:1].isdigit() else f"Part{wanted}")

    def _new(self, wanted: str) -> str:
        found = next(name for name in _numbered(wanted) if name not in self.taken)
        self.taken |= {found}
        return found

    def of_input(self, name: str) -> str:
        """The name of an argument: as the spec has it, unless it would hide something that the source needs."""
        return name if name not in self.taken else f"{name}_"

    def imports(self, body: str) -> list[str]:
        """The imports that a source with this body needs, in the usual order."""
        used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
        standard = [f"import {name}" for name in _STANDARD if name in used]
        torch = [line for name, line in _TORCH.items() if name in used]
        vision = [
            line
            for module in sorted(self._vision)
            for line in _from(module, sorted(self._vision[module]))
        ]
        return [*standard, *([""] if standard else []), *torch, *vision]


def _from(module: str, names: list[str]) -> list[str]:
    line = f"from {module} import {', '.join(names)}"
    return (
        [line]
        if len(line) <= LINE_WIDTH
        else code_lines(Bracket("(", tuple(names), packed=False), 0, f"from {module} import ")
    )


def _of_torchvision(name: str) -> bool:
    return name.startswith("torchvision.")


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1
