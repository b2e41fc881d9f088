"""Wall seconds of the phases of a growth step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


@dataclass
class Timer:
    """Wall seconds per named phase; a phase that runs several times is added up.

    Args:
        phases: seconds by name.
    """

    phases: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what runs inside."""
        start = perf_counter()
        yield
        self.phases[name] = self.phases.get(name, 0.0) + perf_counter() - start

    def run(
        self,
        name: str,
        function: Callable[Parameters, Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result:
        """Call a function as a phase of that name, and give what it gives."""
        with self.phase(name):
            return function(*args, **kwargs)
