"""The leaves of a model's output, in whatever the model wraps them.

An iterator is run to its end, mappings and collections are listed, and of any other object the
tensors count that Python's garbage collector reaches from it: in attributes, closures, partial
functions, bound methods, weak references. So what a caller can get hold of is an output.
"""

import dataclasses
import gc
import io
import sys
import types
import weakref
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fxgrow.copying import closure_values
from fxgrow.errors import ModelError

MAX_ITEMS = 1000
"""How many values of an iterator are taken."""

_OWN_MEMORY = ("transformers.cache_utils",)
"""Modules whose objects are a model's own memory for its next call, which it grows along with."""

_PLAIN = (type(None), bool, int, float, complex, str, bytes, range, io.IOBase)
_INTERPRETER = (types.CodeType, types.FrameType, types.TracebackType)


def output_leaves(output: Any, model: nn.Module | None = None) -> list[Any]:
    """The leaves of an output's containers, iterators, dataclasses, functions and objects.

    Args:
        output: what a model gave; iterators in it are used up.
        model: the model. Modules of it that an output refers to are not looked into; of one that
            is an output itself the attributes are, but not its parameters and buffers.

    Returns:
        The leaves in order; an object that holds tensors stands for these.

    Raises:
        ModelError: ``does-not-run``, if an iterator does not end.
    """
    modules = model.modules() if model is not None else ()
    walk = _Walk(frozenset(map(id, modules)))
    for leaf in tree_leaves(output, is_leaf=_has_object_keys):
        walk.add(leaf)
    return walk.leaves


def _has_object_keys(value: Any) -> bool:
    """Whether a value is a dict whose keys may be, or hold, tensors."""
    return isinstance(value, dict) and not all(isinstance(key, _PLAIN) for key in value)


def direct_tensors(output: Any, model: nn.Module | None = None) -> list[Any]:
    """The tensors that an output holds itself, not in a container or an object inside it.

    What a model gives per block (caches, the states of all blocks) lies in such containers.

    Args:
        output: what a model gave.
        model: as for ``output_leaves``.

    Returns:
        The tensors in order; all leaves if none of them has floating-point numbers.
    """
    entries: Sequence[Any] = [output]
    if isinstance(output, Mapping):
        entries = list(output.values())
    elif dataclasses.is_dataclass(output):
        entries = [getattr(output, field.name, None) for field in dataclasses.fields(output)]
    elif isinstance(output, (tuple, list)):
        entries = output
    tensors = [entry for entry in entries if isinstance(entry, Tensor)]
    has_floats = any(tensor.is_floating_point() for tensor in tensors)
    return tensors if has_floats else output_leaves(output, model)


class _Walk:
    """Collects the leaves of one output.

    Args:
        own: the ids of the model's modules, which are not entered.
    """

    def __init__(self, own: Container[int]) -> None:
        self.own = own
        self.leaves: list[Any] = []
        # Objects by id, held so that no other one gets the id of one that was made on the way.
        self.seen: dict[int, Any] = {}

    def add(self, leaf: Any) -> None:
        """Add a leaf of the output's own containers, or the tensors that it stands for."""
        if isinstance(leaf, Tensor):
            self.leaves += [leaf, *self._tensors(_attributes(leaf))]
            return
        # Of what else an object holds (a counter, a lock) nobody says that it is an output.
        self.leaves += self._tensors([leaf]) or [leaf]

    def _tensors(self, values: Sequence[Any]) -> list[Tensor]:
        """The tensors in and behind some values, depth first."""
        found: list[Tensor] = []
        waiting = [(value, True) for value in reversed(values)]
        while waiting:
            value, is_given = waiting.pop()
            if id(value) in self.seen or _is_closed(value):
                continue
            self.seen[id(value)] = value
            if isinstance(value, Tensor):
                found.append(value)
            elif id(value) in self.own:
                waiting += [(part, False) for part in _kept(value)] if is_given else []
            else:
                given = _given(value) if is_given else []
                # On top of the stack last, so looked at first: what the caller is given.
                waiting += [(part, False) for part in reversed(_held(value))]
                waiting += [(part, True) for part in reversed(given)]
        return found


def _is_closed(value: Any) -> bool:
    """Whether a value is not looked into."""
    if isinstance(value, (*_PLAIN, *_INTERPRETER)):
        return True
    if isinstance(value, types.ModuleType):
        return sys.modules.get(value.__name__) is value
    if isinstance(value, type):  # a class that the forward pass made may hold tensors
        return "<locals>" not in value.__qualname__
    return any(base.__module__.startswith(_OWN_MEMORY) for base in type(value).__mro__)


def _kept(module: nn.Module) -> list[Any]:
    """What a module keeps besides its parameters, buffers, parts and hooks."""
    bare = vars(nn.Module())
    return [value for name, value in vars(module).items() if name not in bare]


def _given(value: Any) -> list[Any]:
    """What a value is made to give: items, entries, fields and attributes."""
    given: list[Any] = []
    if isinstance(value, Iterator):
        given += _run_to_its_end(value)
    elif isinstance(value, Mapping):
        given += [*value.keys(), *value.values()]
    elif isinstance(value, np.ndarray):
        given += value.flat if value.dtype == object else []
    elif isinstance(value, Collection) and not isinstance(value, (type, nn.Module)):
        given += value
    if dataclasses.is_dataclass(value):
        given += [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    return given + _attributes(value)


def _run_to_its_end(iterator: Iterator[Any]) -> list[Any]:
    items = list(islice(iterator, MAX_ITEMS + 1))
    if len(items) > MAX_ITEMS:
        raise ModelError(
            "does-not-run",
            f"the model gives an iterator ({type(iterator).__name__}) of more than {MAX_ITEMS} "
            "values, so its output cannot be told; return a list or a tuple",
        )
    return items


def _attributes(value: Any) -> list[Any]:
    """The attributes of an object, those that fxgrow keeps there left out."""
    values = []
    for name, attribute in vars(value).items() if hasattr(value, "__dict__") else ():
        if not name.startswith("_fxgrow"):
            values.append(attribute)
    return values


def _of_function(function: types.FunctionType) -> list[Any]:
    # Not the names of its file, which it refers to as well.
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    return [*closure_values(function), *defaults]


def _of_future(future: Any) -> list[Any]:
    return [future.value()] if future.done() else []


_HELD: tuple[tuple[type, Callable[[Any], list[Any]]], ...] = (
    (types.FunctionType, _of_function),
    (weakref.ref, lambda reference: [reference()]),
    (torch.futures.Future, _of_future),
)
"""Of which kinds of objects the garbage collector knows too much, or too little."""


def _held(value: Any) -> list[Any]:
    """What an object refers to."""
    for kind, parts in _HELD:
        if isinstance(value, kind):
            return parts(value)
    return gc.get_referents(value)
