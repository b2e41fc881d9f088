"""How long something takes, in wall time and in CPU time."""

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stopwatch:
    """The time that has passed since this object was made; it runs on and can be read at any time.

    Args:
        wall: the reading of the wall clock at the start (``time.perf_counter``), by default now.
        cpu: the reading of the process's CPU clock at the start (``time.process_time``), by default
            now.

    Example:
        >>> stopwatch = Stopwatch.start()
        >>> stopwatch.seconds >= 0 and stopwatch.cpu_seconds >= 0
        True
    """

    # readings in seconds, of clocks whose zero means nothing
    wall: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=time.process_time)

    @staticmethod
    def start() -> "Stopwatch":
        """Start a stopwatch now.

        Returns:
            A stopwatch at zero.
        """
        return Stopwatch()

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return time.perf_counter() - self.wall

    @property
    def cpu_seconds(self) -> float:
        """CPU time of all threads of this process since the start."""
        return time.process_time() - self.cpu
