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

import torch
from torch import nn
from torch.optim import Optimizer

from fxgrow.argument_checks import Amount, Seed, Within, checked
from fxgrow.capture import direct_tensors
from fxgrow.copying import copy_with_optimizer
from fxgrow.errors import BudgetError, GrowthError, ModelError
from fxgrow.growth.block_identity import Assignments, identity_assignments
from fxgrow.growth.block_lists import (
    BlockLayout,
    block_list,
    draw_weights,
    insert_blocks,
    layout_of,
    middle_order,
    order_after,
    own_parameters,
    spread_positions,
    stacked_order,
)
from fxgrow.growth.block_reach import require_reached
from fxgrow.growth.block_trace import BlockTrace, trace_blocks
from fxgrow.growth.objective import LossFunction, Objective
from fxgrow.growth.preservation import Preservation
from fxgrow.growth.widen import model_and_examples
from fxgrow.memory import device_of, require_memory
from fxgrow.modes import exclusive_autograd, plain_attention
from fxgrow.running import errors_as
from fxgrow.surgery import (
    DEFAULT_TREATMENT,
    ConfigUpdate,
    DepthChange,
    restore_on_failure,
    update_depth,
)

HowToDeepen = Literal["copied", "new", "stack", "middle"]
"""What new blocks are."""
_EXACT = ("copied", "new")
_MAX_NEW_BLOCKS = 2**10
_BlockCount = Annotated[int, Within(0, _MAX_NEW_BLOCKS)]
"""A number of blocks, which are made one by one."""


@dataclass(frozen=True)
class Deepened:
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
        optimizer: the grown optimizer, None if none was given.
        example_inputs: the arguments that it was deepened with; ``fxgrow.save`` captures it on
            them.

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
    optimizer: Optimizer | None = None
    example_inputs: tuple[Any, ...] | None = field(default=None, repr=False)


@checked
def deepen(
    model: nn.Module,
    blocks: Mapping[str, _BlockCount | Sequence[Amount]],
    example_inputs: Any = None,
    how: HowToDeepen = "copied",
    where: Literal["end", "spread"] = "end",
    seed: Seed = 0,
    inplace: bool = False,
    examples: Sequence[Any] = (),
    optimizer: Optimizer | None = None,
    batches: Sequence[Any] = (),
    loss_fn: LossFunction | None = None,
) -> Deepened:
    """Make lists of residual blocks longer, in the model's own class.

    A new block is a copy of the one before it. It starts as the identity: what its branches are
    last multiplied with (a projection, a layer scale, the gain of a last norm) and what is added
    after that is zero, so that it learns at once. The model is run before and after. Attributes
    that number the blocks, and a ``config``, follow.

    Args:
        model: any model with an ``nn.ModuleList`` or ``nn.Sequential`` of residual blocks.
        blocks: by the path of a list how many it gets, or after which old ones (from 0) they lie.
        example_inputs: in one of the forms of an input.
        how: ``"copied"``, or ``"new"`` for matrices and kernels that are drawn anew; both keep the
            function. Not exact: ``"stack"`` puts whole copies of all blocks in order at the end
            (G_stack), ``"middle"`` copies of the middle ones behind these (SOLAR).
        where: of a number of exact blocks: at the end, or spread evenly.
        seed, examples: of new weights; more example inputs, to reach what one does not.
        inplace: change the model and the optimizer themselves, all or nothing; else copies.
        optimizer: gets new parameters in the groups of those that they are copies of, stateless.
        batches, loss_fn: as for ``fxgrow.grow``, to tell the loss before and after; all are used.

    Returns:
        The deeper model.

    Raises:
        GrowthError: ``unknown-blocks``, ``bad-blocks`` for a number or place that cannot be,
            ``not-residual`` for one that no zeros make the identity (post-norm),
            ``unreached-blocks`` if the model's code does not run new ones, ``broken-promise``.
        BudgetError, ModelError: ``empty-budget`` without a block, ``too-large``; ``does-not-run``.

    Example:
        >>> deeper = fxgrow.deepen(model, {"model.layers": 2}, inputs, where="spread")
    """
    _, given = model_and_examples(model, example_inputs, examples)
    if optimizer is not None:
        DEFAULT_TREATMENT.require(optimizer, model)
    deepening = _Deepening(_layouts(model, blocks, how, where), how, seed, given)
    with exclusive_autograd(), plain_attention():
        return deepening.carried_out(model, optimizer, inplace, _Losses.of(model, batches, loss_fn))


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

    layouts: tuple[BlockLayout, ...]
    how: HowToDeepen
    seed: int
    examples: tuple[tuple[Any, ...], ...]

    @property
    def exact(self) -> bool:
        """Whether it keeps the function."""
        return self.how in _EXACT

    def carried_out(
        self, model: nn.Module, optimizer: Optimizer | None, inplace: bool, losses: _Losses
    ) -> Deepened:
        """Deepen a model or a copy of it, and compare it with what it was."""
        _require_memory(model, self.layouts)
        before = Preservation.of(model, *self.examples, leaves=direct_tensors)
        traces = self._traces(model)
        zeros = _zeros(model, traces) if self.exact else {}
        if not inplace:
            model, optimizer = copy_with_optimizer(model, optimizer)
        with restore_on_failure(model, optimizer):
            _insert(model, self, zeros, optimizer)
            config = self._updated_config(model, before)
            # Without values, too: on the meta device it runs as well.
            require_reached(model, self.layouts, self.examples)
            error = before.require(model) if self.exact else before.error(model)
            loss_after = losses.after(model)
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
            optimizer=optimizer,
            example_inputs=self.examples[0],
        )

    def _traces(self, model: nn.Module) -> dict[str, list[BlockTrace]]:
        """What each block that is copied computes, in the old model."""
        paths = []
        for layout in self.layouts:
            paths += [layout.old_path(number) for number in layout.copied]
        what = f"{type(model).__name__} does not run on its example inputs"
        with errors_as(ModelError, "does-not-run", what, "give inputs that its forward takes"):
            return trace_blocks(model, paths, self.examples)

    def _updated_config(self, model: nn.Module, before: Preservation) -> ConfigUpdate | None:
        """Bring a config in line with the deeper model."""
        changes = []
        for layout in self.layouts:
            changes.append(DepthChange(layout.path, len(layout.old_names), layout.sources))
        # What is not exact has no outputs that it has to have, only shapes.
        expected = before.expected if self.exact and not before.skipped else None
        return update_depth(
            model, changes, self.examples[0], lambda module, _: before.outputs(module), expected
        )


_Zeros = Mapping[str, Assignments]
"""By the path of each block that is copied: what makes its copy the identity."""


def _layouts(
    model: nn.Module,
    blocks: Mapping[str, int | Sequence[int]],
    how: str,
    where: str,
) -> tuple[BlockLayout, ...]:
    """The longer lists; those that get nothing are left out."""
    # Zeros are allowed, as for ``widen``: a caller may count per list.
    layouts = []
    for path, asked in blocks.items():
        found = block_list(model, path)
        order = _order(len(found._modules), path, asked, how, where)
        if len(order) > len(found._modules):
            layouts.append(layout_of(found, path, order))
    if not layouts:
        raise BudgetError("empty-budget", "no list is to get a block; ask for at least one")
    for layout in layouts:
        for other in layouts:
            is_inside = not layout.path or other.path.startswith(f"{layout.path}.")
            if other is not layout and is_inside:
                message = f"{other.path!r} lies in a block of {layout.path!r}"
                raise _bad_blocks(message, "deepen one after the other")
    return tuple(layouts)


def _order(
    length: int, path: str, asked: int | Sequence[int], how: str, where: str
) -> list[tuple[int, bool]]:
    """For each place of a longer list the old number of a block, and whether it is a copy."""
    if not isinstance(asked, int):
        if how not in _EXACT:
            message = f"how={how!r} says itself where the new blocks of {path!r} lie"
            raise _bad_blocks(message, "give their number")
        _require_places(length, path, asked)
        return order_after(length, asked)
    if how == "stack":
        return stacked_order(length, asked)
    if how == "middle":
        if asked > length:
            message = f"{path!r} has {length} blocks, so {asked} have no middle there"
            raise _bad_blocks(message, f"ask for {length} at most, or say how='stack'")
        return middle_order(length, asked)
    if where == "spread":
        return order_after(length, spread_positions(length, asked))
    return order_after(length, [length - 1] * asked)


def _require_places(length: int, path: str, asked: Sequence[int]) -> None:
    """Check the blocks behind which new ones are to lie."""
    if len(asked) > _MAX_NEW_BLOCKS:
        message = f"{path!r} would get {len(asked)} new blocks, which are made one by one"
        raise _bad_blocks(message, f"ask for {_MAX_NEW_BLOCKS} at most")
    wrong = [position for position in asked if position >= length]
    if wrong:
        message = f"{path!r} has {length} blocks, so none lies behind block {wrong[0]}"
        raise _bad_blocks(message, f"count from 0 to {length - 1}")


def _bad_blocks(what: str, advice: str) -> GrowthError:
    return GrowthError("bad-blocks", f"{what}; {advice}")


def _require_memory(model: nn.Module, layouts: Sequence[BlockLayout]) -> None:
    """Check that the new blocks fit into memory, before any of it is taken."""
    needed = 0  # bytes
    for layout in layouts:
        for path in layout.new_blocks.values():
            block = model.get_submodule(path)
            for tensor in (*block.parameters(), *block.buffers()):
                needed += tensor.numel() * tensor.element_size()
    require_memory(needed, "so many blocks", "add fewer", BudgetError, device_of(model))


def _zeros(model: nn.Module, traced: Mapping[str, Sequence[BlockTrace]]) -> dict[str, Assignments]:
    """What makes the copy of each block that is copied the identity."""
    found = {}
    for path, traces in traced.items():
        block = model.get_submodule(path)
        values = identity_assignments(traces, [name for name, _ in block.named_parameters()])
        if values is None:
            raise _not_residual(block, path, is_called=bool(traces))
        found[path] = values
    return found


def _not_residual(block: nn.Module, path: str, is_called: bool) -> GrowthError:
    why = "the example inputs do not reach it"
    if is_called:
        why = (
            "its input is no term of its output (a norm follows the addition: post-norm, say), or "
            "a branch does not end in a product with a parameter"
        )
    return GrowthError(
        "not-residual",
        f"{type(block).__name__} at {path!r} is no block that zeros make the identity: {why}; "
        "choose other blocks, or how='stack', which does not keep the function",
    )


def _insert(
    model: nn.Module, deepening: _Deepening, zeros: _Zeros, optimizer: Optimizer | None
) -> None:
    """Put the new blocks into their lists, with the values that they start from."""
    layouts = deepening.layouts
    # Before any list changes, since names in it may then mean other blocks.
    originals = {}
    for layout in layouts:
        for path in layout.new_blocks.values():
            originals[path] = model.get_submodule(path)
    generator = torch.Generator().manual_seed(deepening.seed)
    for layout in layouts:
        insert_blocks(model, layout)
        for path, source in layout.new_blocks.items():
            original = originals[source]
            own = own_parameters(model.get_submodule(path), original)
            if deepening.how == "new":
                draw_weights(own.values(), generator)
            _assign(own, zeros.get(source, {}), source)
            # Shared parameters are in a group already.
            if optimizer is not None:
                _join_groups(optimizer, own, original)


@torch.no_grad()
def _assign(own: Mapping[str, nn.Parameter], values: Assignments, source: str) -> None:
    """Give parameters of a copied block constant values."""
    for name, value in values.items():
        if name not in own:
            raise GrowthError(
                "not-residual",
                f"{source}.{name} would have to be zero in a copy of {source!r}, but other modules "
                "hold it, too; untie it",
            )
        own[name].fill_(value)


def _join_groups(
    optimizer: Optimizer, own: Mapping[str, nn.Parameter], original: nn.Module
) -> None:
    """Put new parameters into the groups of those that they are copies of."""
    groups: dict[int, dict[str, Any]] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            groups[id(parameter)] = group
    # At the end of each group: what an optimizer keeps by position stays in place.
    for name, parameter in own.items():
        neighbour = id(original.get_parameter(name))
        if neighbour in groups:
            groups[neighbour]["params"].append(parameter)


def _zeroed(layouts: Sequence[BlockLayout], zeros: _Zeros) -> dict[str, float]:
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
