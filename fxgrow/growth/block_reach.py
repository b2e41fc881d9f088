"""Does a model's own code run the blocks that its lists got?

A forward that loops over a list runs all of it. One that loops over ``range(self.depth)`` does so
only if that number follows, and one that lists the blocks by name never does.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from fxgrow.capture import first_line, preserve_state
from fxgrow.errors import GrowthError
from fxgrow.growth.block_lists import BlockLayout

_MAX_LISTED = 8


def require_reached(
    model: nn.Module, layouts: Sequence[BlockLayout], examples: Sequence[tuple[Any, ...]]
) -> None:
    """Check that all new blocks run; a number of blocks that the model holds follows if need be.

    Args:
        model: the deeper model.
        layouts: its longer lists.
        examples: its positional arguments.

    Raises:
        GrowthError: ``unreached-blocks``; ``broken-promise`` if the model does not run at all.
    """
    missed = _unreached(model, layouts, examples)
    if not missed:
        return
    # One at a time: other numbers may be as large by accident.
    for module, name, length in _length_attributes(model, layouts):
        before = vars(module)[name]
        vars(module)[name] = length
        if not _unreached(model, layouts, examples):
            return
        vars(module)[name] = before
    listed = ", ".join(map(repr, missed[:_MAX_LISTED]))
    raise GrowthError(
        "unreached-blocks",
        f"the code of {type(model).__name__} does not run {listed} on the example inputs: it "
        "counts blocks by a number of its own, pairs them with others, or calls each by name; "
        "nothing was changed; let its forward loop over the list itself",
    )


def _unreached(
    model: nn.Module, layouts: Sequence[BlockLayout], examples: Sequence[tuple[Any, ...]]
) -> list[str]:
    """The new blocks that no example runs."""
    reached: set[nn.Module] = set()
    paths = [path for layout in layouts for path in layout.new_blocks]
    try:
        # Hooks that are made inside are gone on leaving; those before would lose what they noted.
        with preserve_state(model), torch.no_grad():
            for path in paths:
                block = model.get_submodule(path)
                block.register_forward_pre_hook(lambda module, _: reached.add(module))
            for inputs in examples:
                model(*inputs)
    except Exception as error:  # the model's own code may raise anything
        message = f"the deeper model does not run: {first_line(error)}; nothing was changed"
        raise GrowthError("broken-promise", message) from error
    return [path for path in paths if model.get_submodule(path) not in reached]


def _length_attributes(
    model: nn.Module, layouts: Sequence[BlockLayout]
) -> Iterator[tuple[nn.Module, str, int]]:
    """Numbers that may be the length of a list, in the modules that hold it, and what it is now."""
    for layout in layouts:
        path = layout.path
        while path:
            path = path.rpartition(".")[0]
            holder = model.get_submodule(path)
            for name, value in list(vars(holder).items()):
                if type(value) is int and value == len(layout.old_names):
                    yield holder, name, len(layout.new_names)
