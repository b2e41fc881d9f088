"""Which references may run code that is not ours: those typed on the command line, and what ``--trust`` names."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fxgrow.documents import limits
from fxgrow.errors import ModelError


@dataclass(frozen=True)
class Trust:
    """``modules`` may be imported if a file names them: exactly these, not the modules inside them.

    ``typed``: the reference does not stand in a file, the user wrote it, and so any module will do.
    """

    modules: frozenset[str] = frozenset()
    typed: bool = False

    def check_import(self, module: str, name: str) -> None:
        """Raises ``ModelError`` (``untrusted-factory``) unless ``module`` may be imported."""
        if self.typed or module in self.modules:
            return
        raise ModelError(
            "untrusted-factory",
            f"{module}:{name} would import the module {module} and call {name}, which may run any code, and a file "
            f"asks for it; nothing was imported: read that module first, then say --trust {module}",
        )

    def check_factory(self, factory: Any, module: str, name: str) -> None:
        """Raises ``ModelError`` (``untrusted-factory``) if ``module`` merely imported it from somewhere else."""
        home = getattr(factory, "__module__", None)
        if self.typed or home == module or str(home).startswith(f"{module}."):
            return
        raise ModelError(
            "untrusted-factory",
            f"{module}:{name} comes from {home}, which --trust {module} does not cover, so it was not called; name a "
            f"factory that {module} defines itself",
        )


TRUST_TYPED = Trust(typed=True)
"""The user wrote the reference."""


def trust_modules(modules: Iterable[str]) -> Trust:
    """Trust in modules by their names. Raises ``ModelError`` (``bad-trust``) for what is no name of a module."""
    named = frozenset(modules)
    for name in sorted(named):
        if not is_module_name(name):
            raise ModelError(
                "bad-trust",
                f"--trust {name!r} is no module; write its dotted name, as in mypkg.models",
            )
    return Trust(named)


def is_module_name(words: str) -> bool:
    """Whether these are ASCII identifiers with dots between them."""
    return len(words) <= limits.NAME and all(map(is_identifier, words.split(".")))


def is_identifier(word: str) -> bool:
    """An ASCII identifier."""
    return word.isascii() and word.isidentifier()
