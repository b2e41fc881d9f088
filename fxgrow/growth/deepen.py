"""Make a model deeper by blocks of its own kind; its class and its forward stay.

References: Wu et al., "LLaMA Pro: Progressive LLaMA with Block Expansion", ACL 2024, section 3.2,
for copies that start as the identity; Du et al., "Stacking Your Transformers", NeurIPS 2024
(G_stack), and Kim et al., "SOLAR 10.7B", NAACL 2024, for copies that do not. How we differ: any
model with a list of residual blocks, whichever they are; what is said to keep the function is run
and compared.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from torch import nn

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Amount, Seed, Within
from fxgrow.capture import direct_tensors
from fxgrow.copying import copy_with_optimizers
from fxgrow.growth.block_gains import placed_by_gain
from fxgrow.growth.block_insertion import (
    Zeros,
    insert_all,
    require_block_memory,
    traced,
    update_depth_config,
    zeros_of,
)
from fxgrow.growth.block_lists import BlockLayout, block_list, recorded_layout
from fxgrow.growth.block_orders import (
    EXACT,
    MAX_NEW_BLOCKS,
    BlockPlaces,
    bad_blocks,
    longer_lists,
)
from fxgrow.growth.block_reach import require_reached
from fxgrow.growth.budget import Budget
from fxgrow.growth.lineage import Lineage, PendingStep, pending_step, shapes_only
from fxgrow.growth.objective import LossFunction, Objective
from fxgrow.growth.preservation import Preservation
from fxgrow.growth.widen import model_and_examples
from fxgrow.modes import exclusive_autograd, plain_attention
from fxgrow.sharding import require_unsharded
from fxgrow.spec import BlockInsertion, GrowthStep
from fxgrow.surgery import (
    DEFAULT_TREATMENT,
    ConfigUpdate,
    GivenOptimizers,
    Optimizers,
    WithOptimizers,
    listed_optimizers,
    restore_on_failure,
)

HowToDeepen = Literal["copied", "new", "stack", "middle"]
"""What new blocks are."""
_BlockCount = Annotated[int, Within(0, MAX_NEW_BLOCKS)]
"""A number of blocks, which are made one by one."""


@dataclass(frozen=True)
class Deepened(WithOptimizers):
    """A deeper model.

    Args:
        module: the model, of the same class.
        new_blocks: the path of each new block, and the path that the block which it is a copy of
            had before.
        renamed: the new path of each old block that others were put in front of; empty if all new
            ones lie at the end.
        exact: whether the function is kept: it is by ``"copied"`` and ``"new"``.
        zeroed: the parameters that make the new blocks the identity, and their value (0, or -1 of
            a gain that is used as 1 + gamma).
        config: what became of a Hugging Face style config; None if the model has none.
        preservation_error: the largest difference of its output on the example inputs from that of
            the model before, relative to the largest output; None if it was not compared.
        unchecked: why it was not compared ("" if it was).
        loss_before, loss_after: on the given batches, in evaluation mode; None without batches.
        optimizers: those that grew along, in the order in which they were given; ``optimizer`` is
            the one of them.
        example_inputs: the arguments that it was deepened with; ``fxgrow.save`` captures it on
            them.
        gains: by the path of each old block, by how much a copy behind it would lower the loss in
            one step, to first order (``block_gains``); empty unless they were placed by gain.
        lineage: the growth steps behind it, which ``fxgrow.save`` writes down.

    Example:
        >>> deeper = fxgrow.deepen(model, {"model.layers": 2}, inputs)
        >>> list(deeper.new_blocks)
        ['model.layers.4', 'model.layers.5']
    """

    module: nn.Module
    new_blocks: Mapping[str, str]
    renamed: Mapping[str, str] = field(default_factory=dict)
    exact: bool = True
    zeroed: Mapping[str, float] = field(default_factory=dict)
    config: ConfigUpdate | None = None
    preservation_error: float | None = None
    unchecked: str = ""
    loss_before: float | None = None
    loss_after: float | None = None
    optimizers: Optimizers = ()
    example_inputs: tuple[Any, ...] | None = field(default=None, repr=False)
    gains: Mapping[str, float] = field(default_factory=dict)
    lineage: Lineage = field(default_factory=Lineage, repr=False)


@checked
def deepen(
    model: nn.Module,
    blocks: Mapping[str, _BlockCount | Sequence[Amount]],
    example_inputs: Any = None,
    how: HowToDeepen = "copied",
    where: Literal["end", "spread", "gain"] = "end",
    seed: Seed = 0,
    inplace: bool = False,
    examples: Sequence[Any] = (),
    optimizer: GivenOptimizers = None,
    batches: Sequence[Any] = (),
    loss_fn: LossFunction | None = None,
    budget: Budget | None = None,
    history: Lineage | Sequence[GrowthStep] = (),
) -> Deepened:
    """Make lists of residual blocks longer, in the model's own class.

    A new block is a copy of the one before it. It starts as the identity: what its branches are
    last multiplied with and what is added after that is zero, so that it learns at once. The model
    is run before and after. Attributes that number the blocks, and a ``config``, follow.

    Args:
        model: any model with an ``nn.ModuleList`` or ``nn.Sequential`` of residual blocks.
        blocks: by the path of a list how many it gets, or after which old ones (from 0) they lie.
        example_inputs, seed, examples: as for ``widen``.
        how: ``"copied"``, or ``"new"`` for matrices and kernels that are drawn anew; both keep the
            function. Not exact: ``"stack"`` puts whole copies of all blocks in order at the end
            (G_stack), ``"middle"`` copies of the middle ones behind these (SOLAR).
        where: of a number of exact blocks: at the end, spread evenly, or (copies alone) behind
            those blocks where one step would gain most on ``batches``, per parameter if these are
            limited by ``budget``; numbers are then the most that each list gets.
        inplace: change model and optimizers themselves, all or nothing; else copies.
        optimizer: one or a list; get new parameters in the groups of what they are copies of.
        batches, loss_fn: as for ``fxgrow.grow``, to tell the loss before and after; all are used.
        budget, history: ``Budget(parameters=0.2, layers=2)``, say; earlier steps as for ``widen``.

    Returns:
        The deeper model.

    Raises:
        GrowthError: ``unknown-blocks``, ``bad-blocks`` for a number or place that cannot be,
            ``not-residual`` for one that no zeros make the identity, ``unreached-blocks`` if the
            model's code does not run new ones, ``broken-promise``.
        BudgetError, ModelError: ``empty-budget`` without a block, ``too-large``; ``does-not-run``.

    Example:
        >>> deeper = fxgrow.deepen(model, {"model.layers": 2}, inputs, where="spread")
    """
    _, given = model_and_examples(model, example_inputs, examples)
    _require_scorable(how, by_gain := where == "gain", loss_fn, budget)
    placement = BlockPlaces(()) if by_gain else longer_lists(model, blocks, how, where)
    optimizers = _whole_with(model, optimizer)
    with exclusive_autograd(), plain_attention():
        losses = _Losses.of(model, batches, loss_fn)
        if by_gain and losses.objective is not None:
            placement = placed_by_gain(model, blocks, budget, given, losses.objective)
        lineage = Lineage.of(model, history)
        deepening = _Deepening(placement, how, seed, given, lineage, budget)
        return deepening.carried_out(model, optimizers, inplace, losses)


def _whole_with(model: nn.Module, optimizer: GivenOptimizers) -> Optimizers:
    """The optimizers, which can grow along with the model, which is not sharded."""
    require_unsharded(model)
    optimizers = listed_optimizers(optimizer)
    DEFAULT_TREATMENT.require(optimizers, model)
    return optimizers


def _require_scorable(
    how: str, by_gain: bool, loss_fn: LossFunction | None, budget: Budget | None
) -> None:
    """Check that new blocks can be placed by gain, if they are to be."""
    # Elsewhere it would be kept by nobody.
    if not by_gain and budget is not None:
        raise bad_blocks("a budget chooses among blocks by their gain", "say where='gain' as well")
    # Fresh matrices are drawn after the places are known.
    if by_gain and (how != "copied" or loss_fn is None):
        message = "what a block would gain is known of copies, on batches with a loss"
        raise bad_blocks(message, "say how='copied', and give batches and loss_fn")


@dataclass
class _Losses:
    """The loss of a model, if it is to be told."""

    objective: Objective | None
    before: float | None

    @staticmethod
    def of(model: nn.Module, batches: Sequence[Any], loss_fn: LossFunction | None) -> "_Losses":
        """The loss before."""
        if loss_fn is None:
            return _Losses(None, None)
        objective = Objective.of(batches, loss_fn, model)
        return _Losses(objective, objective.mean(model))

    def after(self, model: nn.Module) -> float | None:
        """The loss of the deeper model."""
        return None if self.objective is None else self.objective.mean(model)


@dataclass(frozen=True)
class _Deepening:
    """What is to be done to a model."""

    placement: BlockPlaces
    how: HowToDeepen
    seed: int
    examples: tuple[tuple[Any, ...], ...]
    lineage: Lineage = field(default_factory=Lineage)
    budget: Budget | None = None

    @property
    def layouts(self) -> tuple[BlockLayout, ...]:
        """The longer lists."""
        return self.placement.layouts

    @property
    def exact(self) -> bool:
        """Whether it keeps the function."""
        return self.how in EXACT

    def carried_out(
        self, model: nn.Module, optimizers: Optimizers, inplace: bool, losses: _Losses
    ) -> Deepened:
        """Deepen a model or a copy of it, and compare it with what it was."""
        require_block_memory(model, self.layouts)
        before = Preservation.of(model, *self.examples, leaves=direct_tensors)
        # What is copied whole has to run as well.
        traces = traced(model, self.layouts, self.examples)
        zeros: Zeros = zeros_of(model, traces, self.examples) if self.exact else {}
        if not inplace:
            model, optimizers = copy_with_optimizers(model, optimizers)
        parent = shapes_only(model)
        with restore_on_failure(model, optimizers):
            seed = self.seed if self.how == "new" else None
            insert_all(model, self.layouts, zeros, optimizers, seed)
            config = update_depth_config(model, self.layouts, before, exact=self.exact)
            # Without values, too: on the meta device it runs as well.
            require_reached(model, self.layouts, self.examples)
            error = before.require(model) if self.exact else before.error(model)
            loss_after = losses.after(model)
        measured = {"preservation_error": error, "loss_before": losses.before}
        step = self._step(parent, {**measured, "loss_after": loss_after})
        return Deepened(
            module=model,
            new_blocks=_union(layout.new_blocks for layout in self.layouts),
            renamed=_union(layout.renamed for layout in self.layouts),
            exact=self.exact,
            zeroed=_zeroed(self.layouts, zeros),
            config=config,
            preservation_error=error,
            unchecked=before.skipped,
            loss_before=losses.before,
            loss_after=loss_after,
            optimizers=optimizers,
            example_inputs=self.examples[0],
            gains=self.placement.gains,
            lineage=self.lineage.then(step),
        )

    def _step(
        self, parent: nn.Module | None, measured: Mapping[str, float | None]
    ) -> PendingStep | None:
        """What was done, for the history."""
        gains = self.placement.gains
        blocks = [layout.record(gains) for layout in self.layouts]
        settings = {"how": self.how, "seed": self.seed, "by_gain": bool(gains)}
        budget = self.budget
        return pending_step(
            parent, "deepen", settings, budget=budget, blocks=blocks, measured=measured
        )


def deepen_in_place(
    model: nn.Module,
    placement: BlockPlaces,
    examples: Sequence[tuple[Any, ...]],
    optimizers: Optimizers,
) -> Deepened:
    """Put copies that start as the identity into a model, all or nothing.

    Args:
        model: is changed.
        placement: its longer lists.
        examples: positional arguments of the model.
        optimizers: get the new parameters.

    Raises:
        FxgrowError: as for ``deepen``.
    """
    deepening = _Deepening(placement, "copied", seed=0, examples=tuple(examples))
    return deepening.carried_out(model, optimizers, inplace=True, losses=_Losses(None, None))


def insert_recorded(
    model: nn.Module, records: Sequence[BlockInsertion], example_inputs: tuple[Any, ...]
) -> None:
    """Make lists longer in place as a step of a history did; new blocks are whole copies.

    Args:
        model: of the class that the step deepened.
        records: what the step did.
        example_inputs: positional arguments of the model.

    Raises:
        GrowthError: ``unknown-blocks`` if the model has no such lists; ``unreached-blocks``.
    """
    layouts = []
    for record in records:
        block_list(model, record.blocks)
        layouts.append(recorded_layout(model, record))
    before = Preservation.of(model, example_inputs, leaves=direct_tensors)
    insert_all(model, layouts, {})
    update_depth_config(model, layouts, before, exact=False)
    require_reached(model, layouts, [example_inputs])


def _zeroed(layouts: Sequence[BlockLayout], zeros: Zeros) -> dict[str, float]:
    """The parameters of new blocks that have a constant value, by their whole name."""
    found = {}
    for layout in layouts:
        for path, source in layout.new_blocks.items():
            for name, value in zeros.get(source, {}).items():
                found[f"{path}.{name}"] = value
    return found


def _union(tables: Iterable[Mapping[str, str]]) -> dict[str, str]:
    union: dict[str, str] = {}
    for table in tables:
        union.update(table)
    return union
