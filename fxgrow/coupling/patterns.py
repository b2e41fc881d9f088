"""Which modules the user wants left alone: patterns of module paths, as in ``fnmatch``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from fxgrow.errors import ModelError, Refusal


@dataclass(frozen=True)
class Patterns:
    """``ignore``: modules whose parameters keep their shapes; ``only``: modules whose neurons may grow (empty: all).

    A pattern stands for the modules that it fits and for everything inside them.
    """

    ignore: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    @staticmethod
    def of(model: nn.Module, ignore: Sequence[str], only: Sequence[str]) -> "Patterns":
        """Raises ``ModelError`` for a pattern that fits no module: it is probably misspelt."""
        paths = [path for path, _ in model.named_modules() if path]
        for pattern in (*ignore, *only):
            if not any(fnmatchcase(path, pattern) for path in paths):
                known = ", ".join(paths[:8])
                raise ModelError(
                    "unknown-module",
                    f"the pattern {pattern!r} fits no module of {type(model).__name__}; its modules are {known}, ...",
                )
        return Patterns(tuple(ignore), tuple(only))

    def refusal(self, parameters: Iterable[str], written: Iterable[str]) -> Refusal | None:
        """Why a width with these parameters, some of which write it, is not wanted."""
        ignored = [name for name in parameters if matches(name, self.ignore)]
        if ignored:
            return Refusal("ignored", "a module that it touches was to be ignored", (ignored[0],))
        if self.only and not any(matches(name, self.only) for name in written):
            return Refusal("ignored", "it is in none of the modules that alone were to grow", ())
        return None


def matches(parameter: str, patterns: Sequence[str]) -> bool:
    """Whether a module that holds the parameter, at any depth, fits one of the patterns."""
    parts = parameter.split(".")
    paths = [".".join(parts[:n]) for n in range(1, len(parts))]
    return any(fnmatchcase(path, pattern) for path in paths for pattern in patterns)
