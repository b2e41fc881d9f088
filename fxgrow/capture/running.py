"""Run a model without leaving a trace in it, and compare what two runs gave."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from fxgrow.randomness import seeded

_SEED = 0


class ModelState:
    """The attributes of a model's modules and what is in their dicts, lists and sets, to go back to."""

    def __init__(self, model: nn.Module) -> None:
        self.undo = {module: _attributes(module) for module in model.modules()}

    def restore(self, part: nn.Module) -> None:
        """Put back the modules of one part."""
        for module in part.modules():
            self.undo.get(module, _nothing)()


@contextmanager
def preserve_state(model: nn.Module) -> Iterator[None]:
    """The model in eval mode inside; as it was afterwards: flags, attributes, the containers in them, buffers."""
    state = ModelState(model)
    buffers = [(buffer, buffer.clone(), buffer._version) for buffer in model.buffers()]
    model.eval()
    try:
        yield
    finally:
        for restore in state.undo.values():
            restore()
        for buffer, kept, version in buffers:
            if buffer._version != version:
                with torch.no_grad():
                    buffer.copy_(kept)


def _nothing() -> None:
    pass


def _attributes(module: nn.Module) -> Callable[[], None]:
    """How to put the attributes of one module back, and what is in their dicts, lists and sets."""
    kept = dict(module.__dict__)
    inside = [_contents(value) for value in kept.values() if isinstance(value, (dict, list, set))]

    def restore() -> None:
        module.__dict__.clear()
        module.__dict__.update(kept)
        for put_back in inside:
            put_back()

    return restore


def _contents(container: Any) -> Callable[[], None]:
    kept = container.copy()

    def restore() -> None:
        container.clear()
        (container.extend if isinstance(container, list) else container.update)(kept)

    return restore


def run_model(module: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
    """The output on copies of the inputs, without gradients, the random numbers the same at every call."""
    with torch.no_grad(), seeded(_SEED):
        return module(*tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, inputs))


def output_leaves(output: Any) -> list[Any]:
    """What an output consists of: the leaves of its lists, dicts, dataclasses and registered containers."""
    found: list[Any] = []
    for leaf in tree_leaves(output):
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            found += output_leaves([getattr(leaf, one.name) for one in dataclasses.fields(leaf)])
        else:
            found.append(leaf)
    return found


def same_outputs(a: Any, b: Any) -> bool:
    """Whether two outputs agree (bit for bit up to the order of a float operator's own additions)."""
    ours, theirs = output_leaves(a), output_leaves(b)
    return len(ours) == len(theirs) and all(_same(x, y) for x, y in zip(ours, theirs, strict=True))


def _same(x: Any, y: Any) -> bool:
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        plain = isinstance(x, (bool, int, float, str, type(None)))
        return type(x) is type(y) and (
            not plain or x == y
        )  # of other objects (caches) only the type is compared
    if x.shape != y.shape or x.dtype != y.dtype or x.is_meta != y.is_meta:
        return False
    if x.is_meta:  # there are no values to compare
        return True
    if x.dtype.is_floating_point or x.dtype.is_complex:
        return torch.allclose(x, y, rtol=1e-4, atol=1e-5, equal_nan=True)
    return torch.equal(x, y)
