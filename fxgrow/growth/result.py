"""What a growth gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import fx, nn

from fxgrow.errors import Refusal, SpecError
from fxgrow.growth.batch_roles import BatchRoles
from fxgrow.growth.plan import Plan
from fxgrow.growth.statistics import BatchNormGap
from fxgrow.spec import ArchitectureSpec, BlockInsertion, LayerInsertion, WidthChange
from fxgrow.surgery import ConfigUpdate, Optimizers, WithOptimizers


@dataclass(frozen=True)
class GrowthReport:
    """What one growth did.

    Args:
        loss_before: mean loss before, in evaluation mode, on the growth batches that candidates are
            scored on: no step of the search sees them.
        loss_after: the same afterwards; it is not above ``loss_before``.
        faithful_error: relative error of the grown model against the over-grown graph.
        preservation_error: relative error against the model before, with every eps at 0.
        backtracks: how often eps was halved until the loss did not rise.
        params_before: parameters of the model before.
        params_after: parameters of the grown model.
        multiply_adds_before: of one pass of the example inputs, before; None if it is not known.
        multiply_adds_after: the same afterwards.
        widths: the widths that grew.
        layers: the layers that were inserted.
        plan: what each unit of the budget bought.
        refusals: why the other widths did not take part, by name.
        edits: how often each rewrite rule fired.
        timings: wall seconds by phase.
        config: what became of a Hugging Face style config; None if the model has none.
        jump: how far batch statistics move the loss; None without batch norm.
        chunks: names of the widths whose candidates were searched in one graph.
        peak_memory: predicted bytes that a step over the largest over-grown graph kept.
        multiply_adds_overgrown: of one pass through the graph with all candidates.
        refined: False if the selected candidates did not fit into the memory limit together, so
            that they were not adapted to each other.
        stale_loss: the held-out loss with the running statistics that the batch norms came with;
            None if they were not refreshed. ``held_out_before`` is that with the new ones.
        held_out_before: mean loss before, on growth batches that decide nothing; None if it was not
            measured.
        held_out_after: the same afterwards; it may be above ``held_out_before``.
        batches: which growth batches served what; as text, a sentence.
        unspent: what of the budget was not spent because there were no candidates left, in a
            sentence; "" if it was spent.
        picked: which method ``Auto`` picked and why, in a sentence; "" if the caller chose one.
        costs_unknown: why multiply-adds are not known, in a sentence; "" if they are.
        unchecked: what excuses ``preservation_error`` and ``faithful_error`` where they are more
            than rounding alone, as in ``Widened``; "" if they are not.

    Example:
        >>> growth = fxgrow.grow(model, batches, loss_fn)
        >>> print(growth.report.held_out_before, growth.report.held_out_after)
    """

    loss_before: float
    loss_after: float
    faithful_error: float
    preservation_error: float
    backtracks: int
    params_before: int
    params_after: int
    multiply_adds_before: int | None
    multiply_adds_after: int | None
    widths: tuple[WidthChange, ...]
    layers: tuple[LayerInsertion, ...]
    plan: Plan
    refusals: dict[str, Refusal]
    edits: dict[str, int]
    timings: dict[str, float]
    config: ConfigUpdate | None = None
    jump: BatchNormGap | None = None
    chunks: tuple[tuple[str, ...], ...] = ()
    peak_memory: int | None = 0
    multiply_adds_overgrown: int | None = 0
    refined: bool = True
    stale_loss: float | None = None
    held_out_before: float | None = None
    held_out_after: float | None = None
    batches: BatchRoles | None = None
    unspent: str = ""
    picked: str = ""
    costs_unknown: str = ""
    unchecked: str = ""
    blocks: tuple[BlockInsertion, ...] = ()
    block_gains: Mapping[str, float] = field(default_factory=dict)

    @property
    def num_blocks(self) -> int:
        """How many blocks were added to all lists."""
        return sum(len(record.new) for record in self.blocks)

    @property
    def seconds(self) -> float:
        """Wall seconds of the whole growth."""
        return sum(self.timings.values())


@dataclass(frozen=True)
class Growth(WithOptimizers):
    """A grown model.

    Args:
        module: the grown model, of the caller's own class (a graph module if layers were inserted).
        graph_module: its graph, which calls the modules of ``module``.
        optimizers: those that grew along, in the order in which they were given; ``optimizer`` is
            the one of them.
        described: the specification, or the error that says why the model has none.
        report: what the growth did.
        graphs: the over-grown and the emitted graph as text.

    Example:
        >>> growth = fxgrow.grow(model, batches, loss_fn, optimizer=optimizer)
        >>> model, optimizer = growth.module, growth.optimizer
        >>> fxgrow.save(growth, "runs/grown")
    """

    module: nn.Module
    graph_module: fx.GraphModule
    optimizers: Optimizers
    described: ArchitectureSpec | SpecError = field(repr=False)
    report: GrowthReport
    graphs: dict[str, str] = field(repr=False)

    @property
    def spec(self) -> ArchitectureSpec:
        """The specification.

        Raises:
            SpecError: the graph calls what no specification may call, or none was asked for
                (``not-described``).
        """
        if isinstance(self.described, SpecError):
            raise self.described
        return self.described


def graph_text(graph_module: fx.GraphModule) -> str:
    """An fx graph as text, with the provenance of every inserted node."""
    lines = []
    for node in graph_module.graph.nodes:
        origin = node.meta.get("fxgrow")
        note = f"  # {origin.rule} {origin.width} {origin.lane}".rstrip() if origin else ""
        lines.append(f"{node.format_node()}{note}")
    return "\n".join(lines) + "\n"
