"""Wall seconds of the phases of a growth step, and who is told of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


OnPhase = Callable[[str, int, int], None]
"""Called with the name of a phase, the number of its step, and how many steps it has (or 0)."""


def tell_nobody(name: str, step: int, steps: int) -> None:
    """Ignore a phase."""


@dataclass
class Timer:
    """Wall seconds per named phase; a phase that runs several times is added up.

    Args:
        phases: seconds by name.
        on_phase: called when a phase begins, and at every step of one that is made of steps.
        current: the phase that runs, or ran last.
    """

    phases: dict[str, float] = field(default_factory=dict)
    on_phase: OnPhase = tell_nobody
    current: str = ""

    def note_step(self, step: int, steps: int) -> None:
        """Tell that the phase has come to a step, from 1, of so many."""
        self.on_phase(self.current, step, steps)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what runs inside."""
        self.current = name
        # Before the clock starts: who listens may take its time.
        self.on_phase(name, 0, 0)
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
