"""A torch.fx tracer that goes on where torch.fx gives up.

A part whose own forward cannot be traced becomes a leaf on the spot: its nodes are taken back and one call of it stands
in their place. With ``decide`` the tracer first answers what Python asks of a symbolic value (``if x.shape[2] > 7``,
``range(len(xs))``) from the example inputs, run beside the trace on fake tensors, and writes the answer into the graph
as an assertion, so that other inputs raise instead of going down the wrong branch. Fake tensors have no values, so what
depends on data is never decided: that part stays opaque.
"""

import operator
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map

from fxgrow.capture.inputs import argument_names
from fxgrow.capture.parts import first_line


class Tracer(fx.Tracer):
    """Leaves are torch's own modules, library modules that hold no others, and the parts named ``opaque``."""

    proxy_buffer_attributes = True

    def __init__(self, inputs: tuple[Any, ...], opaque: dict[str, str], decide: bool) -> None:
        super().__init__(autowrap_functions=() if decide else _timm_functions())
        self.inputs = inputs
        self.opaque = dict(opaque)
        self.calls: list[tuple[str, Any]] = []
        self.values = _Values(inputs) if decide else None

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
        """Arguments that hold tensors become placeholders; None and other plain values stay what they are."""
        arguments: list[Any] = [self.root]
        for name, given in zip(argument_names(self.root, self.inputs), self.inputs, strict=True):
            proxy = self.create_proxy("placeholder", name, (), {})
            arguments.append(proxy if any(isinstance(leaf, Tensor) for leaf in tree_leaves(given)) else given)
        return root_fn, arguments

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        childless_library = m.__module__.startswith("torchvision.ops") and not any(m.children())
        return (
            module_qualified_name in self.opaque
            or childless_library
            or super().is_leaf_module(m, module_qualified_name)
        )

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.values is not None and self.values.running:
            return forward(*args, **kwargs)
        path, depth, last = self.path_of_module(m), len(self.module_stack), next(iter(reversed(self.graph.nodes)))
        try:
            result = super().call_module(m, forward, args, kwargs)
        except Exception as error:  # noqa: BLE001 - anything that the user's forward raises when it is fed proxies
            if self.is_leaf_module(m, path):
                raise
            self.opaque[path] = first_line(error)
            while len(self.module_stack) > depth:
                self.module_stack.popitem()
            self._take_back(last)
            return super().call_module(m, forward, args, kwargs)
        if path not in self.opaque:
            self.calls.append((path, tree_map(lambda x: x.node if isinstance(x, fx.Proxy) else x, result)))
        return result

    def _take_back(self, last: fx.Node) -> None:
        """Erase the nodes after ``last``, but for parameters, which fx remembers, and for what lists still hold."""
        for node in reversed(list(self.graph.nodes)):
            if node is last:
                return
            if node.op != "get_attr" and not node.users:
                self.graph.erase_node(node)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self.values is not None and self.values.running:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self) if self.values is None else _KnownProxy(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        return super().to_bool(obj) if self.values is None else bool(self.decided(obj, bool))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        return super().iter(obj) if self.values is None else (obj[i] for i in range(self.decided(obj, len)))

    def decided(self, proxy: fx.Proxy, question: Callable[[Any], Any]) -> Any:
        """What the example inputs answer; the graph asserts that it is so."""
        if self.values is None:
            raise TypeError("the value of a traced expression is asked for")
        value = self.values.of(proxy.node, self)
        answer = question(value)
        if not isinstance(value, (dict, list, tuple)) or question is not len:  # what has a fixed length
            asked = value if question is bool else None
            holds = _holds(proxy, question, answer, asked)
            message = f"the graph was captured for inputs with {proxy.node.name} = {answer}; capture again with such inputs"
            torch._assert(holds, message)
        return answer


def _holds(proxy: fx.Proxy, question: Callable[[Any], Any], answer: Any, value: Any) -> Any:
    if question is not bool:
        return proxy == answer
    return proxy if answer else proxy.tracer.create_proxy("call_function", operator.not_, (proxy,), {})


class _Proxy(fx.Proxy):
    """Symbolic values that can be written into."""

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})


class _Answers:
    """What Python may ask of a value that the tracer knows from the example inputs."""

    tracer: Tracer

    def __index__(self) -> int:
        return self._decided(operator.index)

    def __int__(self) -> int:
        return self._decided(int)

    def __float__(self) -> float:
        return self._decided(float)

    def __len__(self) -> int:
        return self._decided(len)

    def _decided(self, question: Callable[[Any], Any]) -> Any:
        return self.tracer.decided(self, question)  # type: ignore[arg-type]


class _KnownProxy(_Answers, _Proxy):
    def __getattr__(self, k: str) -> Any:
        return _KnownAttribute(self, k)


class _KnownAttribute(_Answers, fx.proxy.Attribute):
    def __getattr__(self, k: str) -> Any:
        return _KnownAttribute(self, k)


class _Values:
    """The nodes of a growing graph, run on fake tensors as far as somebody asks."""

    def __init__(self, inputs: tuple[Any, ...]) -> None:
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.inputs = iter(tree_map(lambda x: self.mode.from_tensor(x) if isinstance(x, Tensor) else x, inputs))
        self.env: dict[fx.Node, Any] = {}
        self.running = False

    def of(self, wanted: fx.Node, tracer: Tracer) -> Any:
        """The value of a node; all before it run first and in order, as they may write into one another."""
        for node in tracer.graph.nodes:
            if node not in self.env:
                self.env[node] = self._run(node, tracer.root)
            if node is wanted:
                break
        return self.env[wanted]

    def _run(self, node: fx.Node, root: nn.Module) -> Any:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.env.__getitem__)
        self.running = True
        try:
            with self.mode, torch.no_grad():
                return getattr(self, node.op)(root, node.target, args, kwargs)
        finally:
            self.running = False

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


def _timm_functions() -> tuple[Any, ...]:
    """The functions that timm itself registers as leaves, if timm is there: a model of it has imported it."""
    layers = sys.modules.get("timm.layers")
    return tuple(layers.get_notrace_functions()) if layers is not None else ()


def drop_unused(graph_module: fx.GraphModule) -> None:
    """Remove what nothing uses, but for what writes into a tensor or asserts something."""
    graph_module.graph.eliminate_dead_code(lambda node: node.is_impure() or _writes(node, graph_module))
    graph_module.recompile()


def _writes(node: fx.Node, graph_module: fx.GraphModule) -> bool:
    if node.op == "call_module":
        return bool(getattr(graph_module.get_submodule(str(node.target)), "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    in_place = name in {"setitem", "__setitem__"} or (name.endswith("_") and not name.endswith("__"))
    return in_place or (node.op == "call_function" and name in _IN_PLACE_OPERATORS) or bool(node.kwargs.get("inplace"))


_IN_PLACE_OPERATORS = {name for name in dir(operator) if name.startswith("i") and name[1:] in dir(operator)}
