"""The values that the nodes of a growing graph have for the example inputs."""

import operator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map

from fxgrow.shape_kernels import CpuStrides

if TYPE_CHECKING:
    from fxgrow.capture.tracer import Tracer


class NodeValues:
    """The values of a growing graph's nodes, run as far as they are asked for.

    Nodes run on fake tensors. A part whose result depends on data cannot: it runs for real, and its
    result is made fake.

    Args:
        inputs: the positional arguments of the model.
        mode: makes fake tensors; None runs everything for real.
    """

    def __init__(self, inputs: tuple[Any, ...], mode: FakeTensorMode | None) -> None:
        self.mode = mode
        self.real = None if mode is None else NodeValues(inputs, None)
        self.inputs = iter(self._converted(inputs))
        self.env: dict[fx.Node, Any] = {}
        self.last: fx.Node | None = None
        self.failure: Exception | None = None
        # A symbolic value that a part kept may ask for itself while that part runs.
        self.busy = False

    def _converted(self, value: Any) -> Any:
        """Tensors as fake ones, or (for real) as clones."""
        convert = torch.clone if self.mode is None else self.mode.from_tensor
        return tree_map(lambda x: convert(x) if isinstance(x, Tensor) else x, value)

    def value_of(self, wanted: fx.Node, tracer: "Tracer") -> Any:
        """The value of a node.

        All nodes before it run first and in order, as they may write into one another.
        """
        if wanted not in self.env and (self.busy or self.failure is not None or wanted._erased):
            raise TypeError("a value that depends on data is asked for") from self.failure
        while wanted not in self.env:
            node = self.last.next if self.last is not None else next(iter(tracer.graph.nodes))
            if node not in self.env:
                try:
                    self.env[node] = self._run(node, tracer)
                except Exception as error:
                    self.failure = error
                    raise
            self.last = node
        return self.env[wanted]

    def rewind(self, last: fx.Node) -> None:
        """Forget what was erased after ``last``."""
        if self.last is not None and self.last._erased:
            self.last = last
        self.failure = None
        if self.real is not None:
            self.real.rewind(last)

    def _run(self, node: fx.Node, tracer: "Tracer") -> Any:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.env.__getitem__)
        was_running = tracer.running
        tracer.running = True
        self.busy = True
        try:
            with self._mode(), torch.no_grad():
                # The methods below have the names of a node's kinds (``node.op``).
                return getattr(self, node.op)(tracer.root, node.target, args, kwargs)
        except Exception:
            if self.real is None or node.op != "call_module":
                raise
            return self._converted(self.real.value_of(node, tracer))
        finally:
            tracer.running = was_running
            self.busy = False

    def _mode(self) -> ExitStack:
        """What nodes run under: fake tensors, with the strides that real ones have."""
        stack = ExitStack()
        if self.mode is not None:
            stack.enter_context(self.mode)
            stack.enter_context(CpuStrides())
        return stack

    def placeholder(self, root: nn.Module, target: str, args: Any, kwargs: Any) -> Any:
        return next(self.inputs)

    def get_attr(self, root: nn.Module, target: str, args: Any, kwargs: Any) -> Any:
        return operator.attrgetter(target)(root)

    def call_module(self, root: nn.Module, target: str, args: Any, kwargs: Any) -> Any:
        return root.get_submodule(target)(*args, **kwargs)

    def call_function(self, root: nn.Module, target: Any, args: Any, kwargs: Any) -> Any:
        return target(*args, **kwargs)

    def call_method(self, root: nn.Module, target: str, args: Any, kwargs: Any) -> Any:
        return getattr(args[0], target)(*args[1:], **kwargs)
