"""What ``widen``, ``deepen`` and ``grow_to`` did, as steps of a model's growth history.

A step names the specification of the model before it. That is made when the grown model is saved,
as most never are; until then the model before is kept as shapes, on the meta device.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

from fxgrow.capture import capture
from fxgrow.copying import Memo, copy_module
from fxgrow.coupling import Width, couple
from fxgrow.errors import ModelError
from fxgrow.growth.budget import Budget
from fxgrow.spec import (
    ArchitectureSpec,
    BlockInsertion,
    BlockRegion,
    GrowthStep,
    LayerInsertion,
    MethodRecord,
    WidthChange,
    describe,
    history_of,
)
from fxgrow.surgery import Change


@dataclass(frozen=True, eq=False)
class PendingStep:
    """A growth step, before the model that it grew is described.

    Args:
        before: that model, with all tensors on the meta device.
        method: what grew it, with its settings.
        widths: the widths that grew.
        layers: the layers that were inserted.
        blocks: the lists of blocks that got longer.
        budget: the limits that were given.
        measured: errors and losses, by the name of the field of ``GrowthStep``.
    """

    before: nn.Module
    method: MethodRecord
    widths: tuple[WidthChange, ...] = ()
    layers: tuple[LayerInsertion, ...] = ()
    blocks: tuple[BlockInsertion, ...] = ()
    budget: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Lineage:
    """Where a grown model comes from.

    Args:
        history: the steps that are described, oldest first.
        pending: those after them.
    """

    history: tuple[GrowthStep, ...] = ()
    pending: tuple[PendingStep, ...] = ()

    @property
    def steps(self) -> tuple[GrowthStep | PendingStep, ...]:
        """All steps, oldest first."""
        return (*self.history, *self.pending)

    @staticmethod
    def of(model: nn.Module, history: "Lineage | Sequence[GrowthStep]") -> "Lineage":
        """The steps that the caller tells, else those of a model that was loaded."""
        if isinstance(history, Lineage):
            return history
        return Lineage(tuple(history) or history_of(model))

    def then(self, *steps: PendingStep | None) -> "Lineage":
        """The same with steps at its end; None for one that left no trace."""
        added = tuple(step for step in steps if step is not None)
        return Lineage(self.history, self.pending + added)

    def described(
        self, example_inputs: tuple[Any, ...], now: ArchitectureSpec
    ) -> tuple[GrowthStep, ...]:
        """All steps, with the specifications of the models between them.

        Args:
            example_inputs: positional arguments of the models.
            now: the specification of the grown model.

        Raises:
            SpecError, ModelError: a model between them has none.
        """
        parents = []
        # All at once: what one step costs is told by the model before the next one.
        for step in self.pending:
            parents.append(_Parent.of(step.before, example_inputs))
        specs = [*(parent.spec for parent in parents), now]
        steps = list(self.history)
        for step, parent, after in zip(self.pending, parents, specs[1:], strict=True):
            steps.append(
                GrowthStep(
                    parent=parent.spec.fingerprint,
                    method=step.method,
                    budget=dict(step.budget),
                    widths=step.widths,
                    layers=step.layers,
                    blocks=tuple(parent.located(record) for record in step.blocks),
                    cost_before=parent.spec.cost,
                    cost_after=after.cost,
                    **step.measured,
                )
            )
        return tuple(steps)


def pending_step(
    before: nn.Module | None,
    method: str,
    settings: Mapping[str, Any],
    *,
    widths: Sequence[WidthChange] = (),
    blocks: Sequence[BlockInsertion] = (),
    budget: Budget | None = None,
    measured: Mapping[str, Any],
) -> PendingStep | None:
    """A step of a history to come; None if the model before left no shapes (``shapes_only``)."""
    if before is None:
        return None
    record = MethodRecord(name=method, settings=dict(settings))
    # As a growth step of ``grow`` records them.
    limits = {} if budget is None else budget.model_dump(exclude_defaults=True)
    return PendingStep(
        before,
        record,
        widths=tuple(widths),
        blocks=tuple(blocks),
        budget=limits,
        measured=measured,
    )


def shapes_only(model: nn.Module) -> nn.Module | None:
    """A copy of a model with all its tensors on the meta device; None if it can't be copied."""
    memo: Memo = {}
    # In the memo before anything is copied, so that no values ever are.
    for tensor in (*model.parameters(), *model.buffers()):
        bare: Tensor = torch.empty_like(tensor.detach(), device="meta")
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(bare, tensor.requires_grad) if is_parameter else bare
    # What only holds functions or locks is shared; it has no shape.
    try:
        return copy_module(model, memo)
    except ModelError:  # grown in place, which needs no copy
        return None


def width_record(width: Width, change: Change, scores: Sequence[float] = ()) -> WidthChange:
    """What happened to a width, as a history tells it.

    Args:
        width: the width before.
        change: what happens to its neurons.
        scores: of the neurons that were chosen.
    """
    split_neurons: list[int] = []  # a neuron that is split twice is listed twice
    for neuron, times in enumerate(change.times):
        split_neurons += [neuron] * (times - 1)
    return WidthChange(
        width=width.name,
        before=width.size,
        after=change.size,
        split=sum(change.times) - len(change.times),
        new=change.new,
        neurons=tuple(split_neurons),
        scores=tuple(scores),
    )


@dataclass(frozen=True, eq=False)
class _Parent:
    """A model between two steps: its specification, and its graph."""

    module: nn.Module
    spec: ArchitectureSpec
    graph: fx.Graph

    @staticmethod
    def of(module: nn.Module, example_inputs: tuple[Any, ...]) -> "_Parent":
        inputs = tree_map(lambda x: x.to("meta") if isinstance(x, Tensor) else x, example_inputs)
        captured = capture(module, inputs)
        graph_module = captured.graph_module
        spec = describe(graph_module, inputs, widths=couple(captured).widths)
        return _Parent(module, spec, graph_module.graph)

    def located(self, record: BlockInsertion) -> BlockInsertion:
        """The same list of blocks, with where they stand in the graph."""
        # The module on the meta device still has its lists; its graph has containers.
        names = tuple(self.module.get_submodule(record.blocks)._modules)
        return located(record, names, self.graph)


def located(record: BlockInsertion, names: Sequence[str], graph: fx.Graph) -> BlockInsertion:
    """A record of a longer list, with where the old blocks stand in the graph if that tells.

    Args:
        record: what was done to the list.
        names: of the blocks in the list before.
        graph: of the model before.
    """
    regions = []
    for name in names:
        nodes = _nodes_of(f"{record.blocks}.{name}".removeprefix("."), graph)
        if not nodes:
            return record
        regions.append(BlockRegion(first=nodes[0].name, last=nodes[-1].name))
    return record.model_copy(update={"regions": tuple(regions)})


def _nodes_of(path: str, graph: fx.Graph) -> list[fx.Node]:
    """The nodes that were traced inside of a block; none if the graph does not tell."""
    found = []
    for node in graph.nodes:
        if path in node.meta.get("nn_module_stack", {}):
            found.append(node)
    return found
