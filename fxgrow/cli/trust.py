"""Which model references may run foreign code: typed ones, and modules that ``--trust`` names."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fxgrow.documents import limits
from fxgrow.errors import ModelError


@dataclass(frozen=True)
class Trust:
    """Which modules may be imported to call a factory in them.

    Args:
        modules: these may be imported if a file names them: exactly these, not modules inside them.
        typed: the user typed the reference, it does not come from a file; so any module may be.
    """

    modules: frozenset[str] = frozenset()
    typed: bool = False

    def check_import(self, module: str, name: str) -> None:
        """Check that a module may be imported.

        Args:
            module: its dotted name.
            name: the factory in it, for the message.

        Raises:
            ModelError: ``untrusted-factory`` if it may not be.
        """
        if self.typed or module in self.modules:
            return
        raise ModelError(
            "untrusted-factory",
            f"{module}:{name} would import the module {module} and call {name}, which may run any "
            "code, and a file asks for it; nothing was imported: read that module first, then say "
            f"--trust {module}",
        )

    def check_factory(self, factory: Any, module: str, name: str) -> None:
        """Check that a trusted module defines a factory itself.

        Args:
            factory: what was found in the module.
            module: the dotted name of the module.
            name: of the factory in it.

        Raises:
            ModelError: ``untrusted-factory`` if the module imported it from an untrusted one.
        """
        # Otherwise a reference could call whatever the module happens to import, os.system say.
        home = getattr(factory, "__module__", None)
        if self.typed or home == module or str(home).startswith(f"{module}."):
            return
        raise ModelError(
            "untrusted-factory",
            f"{module}:{name} comes from {home}, which --trust {module} does not cover, so it was "
            f"not called; name a factory that {module} defines itself",
        )


# For references that the user typed.
TRUST_TYPED = Trust(typed=True)


def trust_modules(modules: Iterable[str]) -> Trust:
    """Trust the modules of these names, for references in files.

    Raises:
        ModelError: ``bad-trust`` if one of them is no dotted name of a module.
    """
    trusted = frozenset(modules)
    # Sorted, so that the error is about the same one every time.
    for name in sorted(trusted):
        if not is_module_name(name):
            raise ModelError(
                "bad-trust",
                f"--trust {name!r} is no module; write its dotted name, as in mypkg.models",
            )
    return Trust(trusted)


def is_module_name(name: str) -> bool:
    """Whether a text consists of ASCII identifiers joined by dots."""
    return len(name) <= limits.NAME and all(map(is_ascii_identifier, name.split(".")))


def is_ascii_identifier(word: str) -> bool:
    """Whether a word is a Python identifier without letters outside ASCII."""
    return word.isascii() and word.isidentifier()
