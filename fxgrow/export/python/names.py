"""Which names a source may use for what, and what it has to import for them."""

import ast
import builtins
import re

from fxgrow.errors import ExportError
from fxgrow.export.python.layout import LINE_WIDTH, Bracket, code_lines
from fxgrow.spec import ArchitectureSpec

# How functions and classes are written, by the first prefix that fits; those of torchvision are
# imported by name.
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
    """The names of one source: how it writes functions and classes, and what it imports for them.

    Args:
        spec: the architecture. The names that it calls are taken, and no class or input gets them.
    """

    def __init__(self, spec: ArchitectureSpec) -> None:
        # Module of torchvision -> what is imported from it, filled as functions are written.
        self._torchvision: dict[str, set[str]] = {}
        called = [node.target for node in spec.nodes if node.op == "call_function"]
        called += [item.type for item in spec.modules]
        self._taken = set(GLOBALS)
        for name in called:
            if _is_torchvision(name):
                self._taken.add(name.rpartition(".")[2])

    def public(self, name: str) -> str:
        """How the source writes a function or class that a spec names.

        Raises:
            ExportError: ``no-source``, if it is no part of torch or torchvision.

        Example:
            >>> Names(spec).public("torch.nn.functional.relu")
            'F.relu'
        """
        for prefix, written in _PREFIXES:
            if name.startswith(prefix):
                return written + name.removeprefix(prefix)
        module, _, short = name.rpartition(".")
        if not _is_torchvision(name):
            raise ExportError(
                "no-source",
                f"{name} is no part of torch or torchvision, so a file of its own cannot hold "
                "the model",
            )
        self._torchvision.setdefault(module, set()).add(short)
        return short

    def of_class(self, path: str) -> str:
        """A new name for the class of a container: ``Layer1_0`` for ``layer1.0``."""
        parts = []
        for part in path.split("."):
            identifier = re.sub(r"\W", "_", part, flags=re.ASCII)
            parts.append(identifier[:1].upper() + identifier[1:])
        wanted = "_".join(parts)
        return self._unique(f"Part{wanted}" if wanted[:1].isdigit() else wanted)

    def _unique(self, wanted: str) -> str:
        """The name, or the first of ``name_2``, ``name_3`` ... that is not taken; now it is."""
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name

    def of_input(self, name: str) -> str:
        """The name of an argument: the spec's, unless it hides something that the source needs."""
        return name if name not in self._taken else f"{name}_"

    def imports(self, body: str) -> list[str]:
        """The imports that a source with this body needs, in the usual order."""
        used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
        lines = [f"import {name}" for name in _STANDARD if name in used]
        if lines:
            lines.append("")
        for name, line in _TORCH.items():
            if name in used:
                lines.append(line)
        for module in sorted(self._torchvision):
            lines += _import_from(module, sorted(self._torchvision[module]))
        return lines


def _import_from(module: str, names: list[str]) -> list[str]:
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= LINE_WIDTH:
        return [line]
    return code_lines(Bracket("(", tuple(names), packed=False), 0, f"from {module} import ")


def _is_torchvision(name: str) -> bool:
    return name.startswith("torchvision.")
