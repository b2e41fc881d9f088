"""What a growth gives back."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from torch import fx, nn
from torch.optim import Optimizer

from fxgrow.errors import Refusal, SpecError
from fxgrow.growth.plan import Plan
from fxgrow.growth.statistics import BatchNormGap
from fxgrow.spec import ArchitectureSpec, LayerInsertion, WidthChange
from fxgrow.surgery import ConfigUpdate


@dataclass(frozen=True)
class GrowthReport:
    """What one growth did. Losses are means over the growth batches in evaluation mode; timings are wall seconds.

    ``config``: what became of a Hugging Face style config; None if the model has none. ``jump``: how far batch
    statistics move the loss; None without batch norm. ``chunks``: the widths whose candidates were searched together,
    by name; ``peak_memory``: predicted bytes that a step over the largest over-grown graph kept;
    ``multiply_adds_overgrown``: of one pass of the example inputs through the graph with all candidates; ``refined``:
    False if the selected candidates did not fit into the memory bound together, so that they were not adapted to each
    other.
    """

    loss_before: float
    loss_after: float
    faithful_error: float
    preservation_error: float
    backtracks: int
    params_before: int
    params_after: int
    multiply_adds_before: int
    multiply_adds_after: int
    widths: tuple[WidthChange, ...]
    layers: tuple[LayerInsertion, ...]
    plan: Plan
    refusals: dict[str, Refusal]
    edits: dict[str, int]
    timings: dict[str, float]
    config: ConfigUpdate | None = None
    jump: BatchNormGap | None = None
    chunks: tuple[tuple[str, ...], ...] = ()
    peak_memory: int = 0
    multiply_adds_overgrown: int = 0
    refined: bool = True

    @property
    def seconds(self) -> float:
        """Wall seconds of the whole growth."""
        return sum(self.timings.values())


@dataclass(frozen=True)
class Growth:
    """A grown copy of the caller's model (``module``, of the same class), its graph, its optimiser and its spec.

    ``graph_module`` calls the modules of ``module``; ``graphs`` holds the over-grown and the emitted graph as text.
    ``described``: the specification, or why the model has none.
    """

    module: nn.Module
    graph_module: fx.GraphModule
    optimizer: Optimizer | None
    described: ArchitectureSpec | SpecError = field(repr=False)
    report: GrowthReport
    graphs: dict[str, str] = field(repr=False)

    @property
    def spec(self) -> ArchitectureSpec:
        """The specification. Raises ``SpecError`` if the graph calls what none may call, or if none was asked for."""
        if isinstance(self.described, SpecError):
            raise self.described
        return self.described


@dataclass
class Timer:
    """Wall seconds per named phase."""

    phases: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what runs inside."""
        start = perf_counter()
        yield
        self.phases[name] = self.phases.get(name, 0.0) + perf_counter() - start


def graph_text(graph_module: fx.GraphModule) -> str:
    """An fx graph as text, with the provenance of every inserted node."""
    lines = []
    for node in graph_module.graph.nodes:
        origin = node.meta.get("fxgrow")
        note = f"  # {origin.rule} {origin.width} {origin.lane}".rstrip() if origin else ""
        lines.append(f"{node.format_node()}{note}")
    return "\n".join(lines) + "\n"
