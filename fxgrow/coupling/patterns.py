"""Which modules the user wants left alone: patterns of module paths, as in ``fnmatch``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from fxgrow.errors import ModelError, Refusal


@dataclass(frozen=True)
class Patterns:
    """What may grow. A pattern stands for the modules that it fits and for all inside them.

    Args:
        ignore: modules whose parameters keep their shapes.
        only: modules whose neurons may grow (empty: all).
        frozen: names of parameters that keep their shapes, and let nothing write or read more
            through them.
    """

    ignore: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    frozen: frozenset[str] = frozenset()

    @staticmethod
    def of(
        model: nn.Module, ignore: Sequence[str], only: Sequence[str], frozen: Sequence[str] = ()
    ) -> "Patterns":
        """Patterns for a model.

        Args:
            model: the model, for the paths of its modules.
            ignore: patterns of modules to leave alone.
            only: patterns of modules that alone may grow.
            frozen: names of parameters that keep their shapes.

        Returns:
            The patterns.

        Raises:
            ModelError: ``unknown-module``, if a pattern fits no module: it is probably misspelled.
        """
        paths = [path for path, _ in model.named_modules() if path]
        for pattern in (*ignore, *only):
            if not any(fnmatchcase(path, pattern) for path in paths):
                known = ", ".join(paths[:8])
                raise ModelError(
                    "unknown-module",
                    f"the pattern {pattern!r} fits no module of {type(model).__name__}; "
                    f"its modules are {known}, ...",
                )
        return Patterns(tuple(ignore), tuple(only), frozenset(frozen))

    def refusal(
        self, parameters: Iterable[str], written: Iterable[str], read: Iterable[str] = ()
    ) -> Refusal | None:
        """Decide whether the user wants a width to grow.

        Args:
            parameters: the parameters of the width.
            written: those of them that write it.
            read: those of them that read it.

        Returns:
            Why it is not wanted, or None if it is.
        """
        for parameter in parameters:
            if matches(parameter, self.ignore):
                return Refusal(
                    "ignored", "a module that it touches was to be ignored", (parameter,)
                )
        for parameters_of_role, verb in ((written, "writes"), (read, "reads")):
            for parameter in sorted(self.frozen.intersection(parameters_of_role)):
                return Refusal(
                    "frozen",
                    f"{parameter} {verb} it and is frozen, so what is new there could never learn; "
                    "let it learn (requires_grad_()) or grow with grow_frozen=True",
                    (parameter,),
                )
        # Only what writes a width is asked for: a width belongs to the module that makes it.
        if not self.only:
            return None
        for parameter in written:
            if matches(parameter, self.only):
                return None
        return Refusal("ignored", "it is in none of the modules that alone were to grow", ())


def matches(parameter: str, patterns: Sequence[str]) -> bool:
    """Whether a module that holds the parameter, at any depth, fits one of the patterns."""
    parts = parameter.split(".")
    # "layer1.0.conv.weight" is held by "layer1", "layer1.0" and "layer1.0.conv".
    for depth in range(1, len(parts)):
        path = ".".join(parts[:depth])
        for pattern in patterns:
            if fnmatchcase(path, pattern):
                return True
    return False
