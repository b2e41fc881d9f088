"""Put copies of blocks into the lists of a model, with the values that they start from."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from fxgrow.errors import BudgetError, GrowthError, ModelError
from fxgrow.growth.block_identity import Assignments, identity_assignments
from fxgrow.growth.block_lists import BlockLayout, draw_weights, insert_blocks, own_parameters
from fxgrow.growth.block_trace import BlockTrace, trace_blocks
from fxgrow.growth.preservation import Preservation
from fxgrow.memory import device_of, require_memory
from fxgrow.running import errors_as
from fxgrow.surgery import ConfigUpdate, DepthChange, join_groups, update_depth

Zeros = Mapping[str, Assignments]
"""By the path of each block that is copied: what makes its copy the identity."""


def traced(
    model: nn.Module, layouts: Iterable[BlockLayout], examples: Sequence[tuple[Any, ...]]
) -> dict[str, list[BlockTrace]]:
    """What each block that is copied computes, in the old model.

    Args:
        model: the model before.
        layouts: its longer lists.
        examples: positional arguments.

    Raises:
        ModelError: ``does-not-run``.
    """
    paths = []
    for layout in layouts:
        paths += [layout.old_path(number) for number in layout.copied]
    what = f"{type(model).__name__} does not run on its example inputs"
    with errors_as(ModelError, "does-not-run", what, "give inputs that its forward takes"):
        return trace_blocks(model, paths, examples)


def zeros_of(
    model: nn.Module,
    traces: Mapping[str, Sequence[BlockTrace]],
    examples: Sequence[tuple[Any, ...]],
) -> dict[str, Assignments]:
    """What makes the copy of each block that is copied the identity, by the path of that block.

    Args:
        model: the model before.
        traces: what each block computes, by its path.
        examples: positional arguments, to find other blocks that would do.

    Raises:
        GrowthError: ``not-residual`` for a block that nothing makes the identity.
    """
    found = solved(model, traces)
    for path in traces:
        if path not in found:
            others = _blocks_that_would_do(model, path.rpartition(".")[0], examples)
            raise _not_residual(model.get_submodule(path), path, bool(traces[path]), others)
    return found


def solved(model: nn.Module, traces: Mapping[str, Sequence[BlockTrace]]) -> dict[str, Assignments]:
    """What makes the copy of a block the identity, of those blocks that something does.

    Args:
        model: the model before.
        traces: what each block computes, by its path.
    """
    found = {}
    for path, calls in traces.items():
        names = dict(model.get_submodule(path).named_parameters())
        values = identity_assignments(calls, names)
        if values is not None:
            found[path] = values
    return found


def _blocks_that_would_do(model: nn.Module, path: str, examples: Sequence[tuple[Any, ...]]) -> str:
    """Advice: which blocks of a list zeros make the identity."""
    # Only now, as following every operator of all blocks takes its time.
    names = list(model.get_submodule(path)._modules)
    paths = [f"{path}.{name}".removeprefix(".") for name in names]
    found = solved(model, trace_blocks(model, paths, examples))
    numbers = [number for number, block in enumerate(paths) if block in found]
    if not numbers:
        return "no block of this list would do"
    return f"copy others of this list, by their numbers: {{{path!r}: {tuple(numbers)}}}"


def _not_residual(block: nn.Module, path: str, is_called: bool, others: str) -> GrowthError:
    why = "the example inputs do not reach it"
    if is_called:
        why = (
            "its input is no term of its output (a norm follows the addition: post-norm, say), or "
            "a branch does not end in a product with a parameter"
        )
    return GrowthError(
        "not-residual",
        f"{type(block).__name__} at {path!r} is no block that zeros make the identity: {why}; "
        f"{others}, or say how='stack', which does not keep the function",
    )


def insert_all(
    model: nn.Module,
    layouts: Sequence[BlockLayout],
    zeros: Zeros,
    optimizers: Sequence[Optimizer] = (),
    seed: int | None = None,
) -> None:
    """Put the new blocks into their lists, with the values that they start from.

    Args:
        model: is changed in place.
        layouts: its longer lists.
        zeros: what makes the copies the identity; none: whole copies.
        optimizers: get new parameters in the groups of those that they are copies of.
        seed: of matrices that are drawn anew; None: they are copies.
    """
    # Before any list changes, since names in it may then mean other blocks.
    originals = {}
    for layout in layouts:
        for path in layout.new_blocks.values():
            originals[path] = model.get_submodule(path)
    generator = torch.Generator().manual_seed(seed or 0)
    new: list[tuple[nn.Parameter, list[nn.Parameter]]] = []
    for layout in layouts:
        insert_blocks(model, layout)
        for path, source in layout.new_blocks.items():
            original = originals[source]
            own = own_parameters(model.get_submodule(path), original)
            if seed is not None:
                draw_weights(own.values(), generator)
            _assign(own, zeros.get(source, {}), source)
            # Shared parameters are in a group already.
            new += copies_of(original, own)
    join_groups(optimizers, model, new)


def require_block_memory(model: nn.Module, layouts: Iterable[BlockLayout]) -> None:
    """Check that the new blocks fit into memory, before any of it is taken.

    Args:
        model: the model before.
        layouts: its longer lists.

    Raises:
        BudgetError: ``too-large``.
    """
    needed = 0  # bytes
    for layout in layouts:
        for path in layout.new_blocks.values():
            block = model.get_submodule(path)
            for tensor in (*block.parameters(), *block.buffers()):
                needed += tensor.numel() * tensor.element_size()
    require_memory(needed, "so many blocks", "add fewer", BudgetError, device_of(model))


def update_depth_config(
    model: nn.Module, layouts: Iterable[BlockLayout], before: Preservation, exact: bool
) -> ConfigUpdate | None:
    """Bring a config in line with the deeper model.

    Args:
        model: the deeper model.
        layouts: its longer lists.
        before: the outputs that it had.
        exact: whether it has them still; else only shapes say what a config has to be.

    Returns:
        What became of it; None if the model has none.
    """
    # Of a list with an entry per block each copy gets the entry of its original.
    changes = []
    for layout in layouts:
        changes.append(DepthChange(layout.path, len(layout.old_names), layout.sources))
    expected = before.expected if exact and not before.skipped else None
    return update_depth(
        model, changes, before.examples[0], lambda module, _: before.outputs(module), expected
    )


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


def copies_of(
    original: nn.Module, own: Mapping[str, nn.Parameter]
) -> list[tuple[nn.Parameter, list[nn.Parameter]]]:
    """Each parameter of a copy, with the one that it is a copy of.

    Args:
        original: what was copied.
        own: the new parameters, by their names in the copy.
    """
    return [(parameter, [original.get_parameter(name)]) for name, parameter in own.items()]
