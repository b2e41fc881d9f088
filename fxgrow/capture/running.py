"""Run a model without leaving a trace in it, and compare the outputs of two runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_map

from fxgrow.capture.hooks import HOOK_TABLES
from fxgrow.capture.outputs import output_leaves
from fxgrow.copying import closure_values
from fxgrow.randomness import seeded

_SEED = 0


class ModelState:
    """The attributes of a model's modules and the contents of their dicts, lists and sets.

    Those that its hooks hold belong to it, too (the features of an extractor, say).

    Args:
        model: the model, whose state is remembered as it is now.
    """

    def __init__(self, model: nn.Module) -> None:
        self.undo = {module: _undo_attributes(module) for module in model.modules()}

    def restore(self, part: nn.Module) -> None:
        """Put back the modules of one part."""
        for module in part.modules():
            # A module that was put in meanwhile has nothing to go back to.
            if module in self.undo:
                self.undo[module]()


@contextmanager
def preserve_attributes(model: nn.Module) -> Iterator[None]:
    """On exit the attributes of a model, and the containers in them, are as they were."""
    state = ModelState(model)
    try:
        yield
    finally:
        state.restore(model)


@contextmanager
def preserve_state(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode; on exit it is as it was.

    That goes for flags, attributes, the containers in them, and buffers: more than
    ``modes.evaluation_mode`` restores, since a forward may write into any of these.

    Args:
        model: the model.
    """
    state = ModelState(model)
    buffers = [(buffer, buffer.clone(), buffer._version) for buffer in model.buffers()]
    model.eval()
    try:
        yield
    finally:
        for undo in state.undo.values():
            undo()
        for buffer, value, version in buffers:
            # torch counts writes in place, so a buffer that nobody wrote into is not copied.
            if buffer._version != version:
                with torch.no_grad():
                    buffer.copy_(value)


def _undo_attributes(module: nn.Module) -> Callable[[], None]:
    """A function that puts the attributes of a module back, and the contents of containers."""
    attributes = dict(module.__dict__)
    kept = []
    for value in (*attributes.values(), *_kept_by_hooks(attributes)):
        if isinstance(value, (dict, list, set)):
            kept.append((value, _contents(value)))

    def restore() -> None:
        module.__dict__.clear()
        module.__dict__.update(attributes)
        for container, contents in kept:
            container.clear()
            if isinstance(container, list):
                container.extend(contents)
            else:
                container.update(contents)

    return restore


def _kept_by_hooks(attributes: dict[str, Any]) -> Iterator[Any]:
    """What the hooks of a module refer to, given its attributes."""
    for table in HOOK_TABLES:
        for hook in attributes.get(table, {}).values():
            yield from closure_values(hook)


def _contents(container: Any) -> Any:
    """What a dict, list or set holds; most of a module's are empty, which costs no copy."""
    if not container:
        return ()
    return dict(container) if isinstance(container, dict) else tuple(container)


def clone_tensors(value: Any) -> Any:
    """The same value with every tensor in it cloned."""
    return tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, value)


def run_model(module: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
    """Run a model without gradients, with the same random numbers at every call.

    Args:
        module: the model.
        inputs: its positional arguments; it gets copies, which it may write into.

    Returns:
        Its output.
    """
    with torch.no_grad(), seeded(_SEED):
        # Called as a module, a graph that fails would print its code on the terminal.
        run = module
        if isinstance(module, fx.GraphModule) and not _has_hooks(module):
            run = module.forward
        return run(*clone_tensors(inputs))


def _has_hooks(module: nn.Module) -> bool:
    return any(getattr(module, table) for table in HOOK_TABLES)


def same_outputs(a: Any, b: Any) -> bool:
    """Whether two outputs agree, up to the order in which a float operator adds.

    Args:
        a: an output.
        b: another.

    Returns:
        True if all their leaves agree.
    """
    leaves = output_leaves(_without_empty_entries(a))
    other_leaves = output_leaves(_without_empty_entries(b))
    if len(leaves) != len(other_leaves):
        return False
    return all(_same_leaf(x, y) for x, y in zip(leaves, other_leaves, strict=True))


def _without_empty_entries(output: Any) -> Any:
    """An output whose dicts have no entries of None.

    A model may leave such entries out (the outputs of ``transformers`` do); its graph, in which
    what an opaque part gave is not known to be None, has them.
    """
    if isinstance(output, dict):
        kept = {key: value for key, value in output.items() if value is not None}
        return {key: _without_empty_entries(value) for key, value in kept.items()}
    if type(output) in (list, tuple):
        return [_without_empty_entries(value) for value in output]
    return output


def _same_leaf(x: Any, y: Any) -> bool:
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        if type(x) is not type(y):
            return False
        # Of other objects (caches) only the type is compared.
        is_plain = isinstance(x, (bool, int, float, str, type(None)))
        return not is_plain or x == y
    # A graph that kept what it was traced with gives fake tensors.
    is_fake = isinstance(x, FakeTensor) or isinstance(y, FakeTensor)
    if is_fake or x.shape != y.shape or x.dtype != y.dtype or x.is_meta != y.is_meta:
        return False
    if x.is_meta:  # there are no values to compare
        return True
    if x.dtype.is_floating_point or x.dtype.is_complex:
        # A call of the same kernel may add in another order, which shows in the last digits.
        return torch.allclose(x, y, rtol=1e-4, atol=1e-5, equal_nan=True)
    return torch.equal(x, y)
