"""The operators that one block of a model runs, as expressions of its inputs and parameters.

The block runs inside the model, on the values that the model gives it, so no arguments have to be
made up. What a parameter, an input, and the result of an operator stand for is followed by the
identity of tensors; a tensor that is written into stands for the last thing written.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from fxgrow.capture import output_leaves, preserve_state


@dataclass(frozen=True, eq=False)
class BlockInput:
    """A tensor that the block is given."""

    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Leaf:
    """A parameter of the block, by its name in it; ``""`` for any other tensor."""

    name: str


@dataclass(frozen=True, eq=False)
class Applied:
    """The result of an operator.

    Args:
        operator: its name in ATen, without the underscore of what works in place.
        arguments: the positional ones; tensors are expressions.
    """

    operator: str
    arguments: tuple[Any, ...]


Expression = BlockInput | Leaf | Applied


@dataclass(frozen=True)
class BlockTrace:
    """One call of a block.

    Args:
        output: the expression of its first floating-point output; None if it has none.
        reached: the names of the parameters that an operator read.
    """

    output: Expression | None
    reached: frozenset[str]


@dataclass
class _Recorder(TorchDispatchMode):
    """Notes each operator while the block runs."""

    names: Mapping[int, str]
    # The tensor is held as well, so that its id is not given to another one.
    known: dict[int, tuple[Tensor, Expression]] = field(default_factory=dict)
    reached: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def expression(self, leaf: Any) -> Any:
        """What stands for an argument: an expression for a tensor, else itself."""
        if not isinstance(leaf, Tensor):
            return leaf
        # Met for the first time: a parameter, a buffer, or a constant of the model's own code.
        if id(leaf) not in self.known:
            name = self.names.get(id(leaf), "")
            self.reached.add(name)
            self.known[id(leaf)] = leaf, Leaf(name)
        return self.known[id(leaf)][1]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        arguments = tree_map(self.expression, args)
        result = func(*args, **(kwargs or {}))
        operator = func._schema.name.removeprefix("aten::").rstrip("_")
        for leaf in tree_leaves(result):
            # What works in place gives back its argument, which is something else from here on.
            if isinstance(leaf, Tensor):
                self.known[id(leaf)] = leaf, Applied(operator, arguments)
        return result


def trace_blocks(
    model: nn.Module, paths: Iterable[str], examples: Iterable[tuple[Any, ...]]
) -> dict[str, list[BlockTrace]]:
    """Run a model in evaluation mode and record what some of its modules compute.

    Args:
        model: is left as it was.
        paths: of the modules, none of which lies inside another one.
        examples: positional arguments of the model.

    Returns:
        By path, one trace for every call; none for a module that is not called.
    """
    traces: dict[str, list[BlockTrace]] = {path: [] for path in paths}
    # On leaving, every module has its own forward again.
    with preserve_state(model), torch.no_grad():
        for path, found in traces.items():
            _record(model.get_submodule(path), found)
        for inputs in examples:
            model(*inputs)
    return traces


def _record(block: nn.Module, found: list[BlockTrace]) -> None:
    """Record every call of a block from now on."""
    forward: Any = block.forward
    names = {id(parameter): name for name, parameter in block.named_parameters()}

    def recorded(*args: Any, **kwargs: Any) -> Any:
        recorder = _Recorder(names)
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor) and leaf.is_floating_point():
                recorder.known[id(leaf)] = leaf, BlockInput(tuple(leaf.shape))
        with recorder:
            output = forward(*args, **kwargs)
        found.append(_trace(recorder, output))
        return output

    # On the instance, in front of the method of its class.
    block.forward = recorded


def _trace(recorder: _Recorder, output: Any) -> BlockTrace:
    reached = frozenset(recorder.reached - {""})
    # The stream comes first; behind it lie attention maps, caches, what a router decided.
    for leaf in output_leaves(output):
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            return BlockTrace(recorder.expression(leaf), reached)
    return BlockTrace(None, reached)
