"""FLOPs of whatever runs, forward and backward.

``torch.utils.flop_counter.FlopCounterMode`` follows modules as well, and so cannot watch
``torch.autograd.grad`` with respect to parameters, which growth calls. Its formulas are used here.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class FlopCounter(TorchDispatchMode):
    """Adds up the FLOPs of all products and convolutions inside the context."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Any = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)  # type: ignore[attr-defined]
        if formula is not None:
            self.total += int(formula(*args, **(kwargs or {}), out_val=out))
        return out
