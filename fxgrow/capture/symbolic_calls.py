"""``torch.finfo`` and ``torch.iinfo`` of a symbolic type, while a model is traced.

Both are classes of torch's C++ code that take a type and nothing else. Masks of attention ask for
``torch.finfo(x.dtype).min``: in the graph that is a call too, so that it stays right when the graph
runs in another precision.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx
from torch.utils._pytree import tree_leaves

_NAMES = ("finfo", "iinfo")


class _SymbolicCall:
    """Stands for a class; calls without symbolic values it passes on.

    Args:
        original: the class.
        make_node: makes the symbolic value of a call.
    """

    def __init__(self, original: Any, make_node: Callable[..., Any]) -> None:
        self.original = original
        self.make_node = make_node

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if any(isinstance(leaf, fx.Proxy) for leaf in tree_leaves((args, kwargs))):
            return self.make_node("call_function", self.original, args, kwargs)
        return self.original(*args, **kwargs)

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, self.original)


@contextmanager
def symbolic_calls(tracer: fx.Tracer) -> Iterator[None]:
    """Let these classes take symbolic values inside.

    Args:
        tracer: makes the nodes.
    """
    originals = {name: getattr(torch, name) for name in _NAMES}
    for name, original in originals.items():
        setattr(torch, name, _SymbolicCall(original, tracer.create_proxy))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(torch, name, original)
