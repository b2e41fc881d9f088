"""A torch.fx tracer that goes on where torch.fx gives up.

A part whose own forward cannot be traced becomes a leaf on the spot: its nodes are taken back and one call of it stands
in their place. With ``decide`` the tracer first answers what Python asks of a symbolic value (``if x.shape[2] > 7``,
``range(len(xs))``) from the example inputs, run beside the trace on fake tensors, and writes the answer into the graph
as an assertion, so that other inputs raise instead of going down the wrong branch. Fake tensors have no values, so what
depends on data is never decided: that part stays opaque.
"""

import operator
import sys
from collections.abc import Callable, Iterator, Mapping, MappingView
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map

from fxgrow.capture.inputs import argument_names
from fxgrow.capture.parts import first_line
from fxgrow.capture.running import ModelState

CAPTURED_MODE = "is not as in the inputs that the graph was captured for; capture again with such inputs. There it was"


class Tracer(fx.Tracer):
    """Leaves are torch's own modules, library modules that hold no others, and the parts named ``opaque``."""

    proxy_buffer_attributes = True

    def __init__(
        self, model: nn.Module, inputs: tuple[Any, ...], opaque: dict[str, str], decide: bool
    ) -> None:
        super().__init__(autowrap_functions=() if decide else _timm_functions())
        self.inputs = inputs
        self.state = ModelState(model)  # a part may keep the symbolic values that it was fed
        self.opaque = dict(opaque)
        self.calls: list[tuple[str, Any]] = []
        self.values = (
            _Values(inputs, FakeTensorMode(allow_non_fake_inputs=True)) if decide else None
        )
        self.running = False

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
        """Arguments that hold tensors become placeholders; None and other plain values stay what they are."""
        arguments: list[Any] = [self.root]
        for name, given in zip(argument_names(self.root, self.inputs), self.inputs, strict=True):
            proxy = self.create_proxy("placeholder", name, (), {})
            arguments.append(
                proxy if any(isinstance(leaf, Tensor) for leaf in tree_leaves(given)) else given
            )
        return root_fn, arguments

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return (
            module_qualified_name in self.opaque
            or _is_library_leaf(m)
            or super().is_leaf_module(m, module_qualified_name)
        )

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.running:
            return forward(*args, **kwargs)
        path, before = self.path_of_module(m), _Mark(self)
        try:
            result = super().call_module(m, forward, args, kwargs)
        except (
            Exception
        ) as error:  # anything that the user's forward raises when it is fed symbolic values
            if self.is_leaf_module(m, path):
                raise
            self.opaque[path] = first_line(error)
            before.restore()
            self.state.restore(m)
            return super().call_module(m, forward, args, kwargs)
        if path not in self.opaque:
            self.calls.append(
                (path, tree_map(lambda x: x.node if isinstance(x, fx.Proxy) else x, result))
            )
        return result

    def create_arg(self, a: Any) -> Any:
        """What a node takes for a value; an object of some class is taken apart, to be put together in the graph."""
        if isinstance(a, fx.Proxy):
            return a.node
        try:
            return super().create_arg(a)
        except NotImplementedError:
            if not hasattr(a, "__dict__") or callable(a):
                raise
            kind = f"{type(a).__module__}:{type(a).__qualname__}"
            return self.create_node(
                "call_function", rebuild_output, (kind, self.create_arg(vars(a))), {}
            )

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self.running:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self) if self.values is None else _KnownProxy(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        return super().to_bool(obj) if self.values is None else bool(self.decided(obj, bool))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        if self.values is None:
            return super().iter(obj)
        value = self.values.of(obj.node, self)
        if isinstance(value, Mapping):
            return iter(list(value))
        if isinstance(value, MappingView):
            mapping, entry = obj.node.all_input_nodes[0], _ENTRIES[str(obj.node.target)]
            return iter([entry(self.proxy(mapping), key) for key in self.values.of(mapping, self)])
        return (operator.getitem(obj, i) for i in range(self.decided(obj, len)))

    def decided(self, proxy: Any, question: Callable[[Any], Any]) -> Any:
        """What the example inputs answer. Where other inputs of the same structure may differ, the graph asserts it."""
        if self.values is None:
            raise TypeError("the value of a traced expression is asked for")
        value = self.values.of(proxy.node, self)
        answer = question(value)
        if isinstance(value, (Tensor, bool, int, float)):
            torch._assert(
                self._holds(proxy, question, value, answer),
                f"{proxy.node.name} {CAPTURED_MODE} {answer}",
            )
        return answer

    def _holds(self, proxy: Any, question: Callable[[Any], Any], value: Any, answer: Any) -> Any:
        if question is bool:
            return (
                proxy if answer else self.create_proxy("call_function", operator.not_, (proxy,), {})
            )
        return (proxy.shape[0] if isinstance(value, Tensor) else proxy) == answer


class _Mark:
    """A place in the trace that can be gone back to."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.last = next(iter(reversed(tracer.graph.nodes)))
        self.depth, self.calls = len(tracer.module_stack), len(tracer.calls)

    def restore(self) -> None:
        """Erase all that came after, but for parameters, whose nodes fx remembers."""
        while len(self.tracer.module_stack) > self.depth:
            self.tracer.module_stack.popitem()
        del self.tracer.calls[self.calls :]
        for node in reversed(list(self.tracer.graph.nodes)):
            if node is self.last:
                break
            if node.op != "get_attr":
                self.tracer.graph.erase_node(node)
        if self.tracer.values is not None:
            self.tracer.values.rewind(self.last)


def rebuild_output(kind: str, attributes: dict[str, Any]) -> Any:
    """An object of the class ``module:name`` (already imported) with these attributes, its constructor not called."""
    module, _, name = kind.partition(":")
    made = object.__new__(operator.attrgetter(name)(sys.modules[module]))
    made.__dict__.update(attributes)
    return made


class _Proxy(fx.Proxy):
    """Symbolic values that can be written into."""

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})


class _Answers(fx.Proxy):
    """What Python may ask of a value that the tracer knows from the example inputs."""

    def __index__(self) -> int:
        return int(_tracer(self).decided(self, operator.index))

    def __int__(self) -> int:
        return int(_tracer(self).decided(self, int))

    def __float__(self) -> float:
        return float(_tracer(self).decided(self, float))

    def __len__(self) -> int:
        return int(_tracer(self).decided(self, len))

    def __contains__(self, key: Any) -> bool:
        value = _tracer(self).decided(self, lambda known: known)
        return key in value if isinstance(value, Mapping) else any(key == one for one in self)

    def __getattr__(self, k: str) -> Any:
        if k.startswith(
            "__"
        ):  # protocols of other libraries, which a symbolic value does not speak
            raise AttributeError(k)
        return _KnownAttribute(self, k)


class _KnownProxy(_Answers, _Proxy):
    pass


class _KnownAttribute(_Answers, fx.proxy.Attribute):
    pass


def _tracer(proxy: fx.Proxy) -> Tracer:
    if not isinstance(proxy.tracer, Tracer):
        raise TypeError("a symbolic value of another tracer")
    return proxy.tracer


_ENTRIES: dict[str, Callable[[Any, Any], Any]] = {
    "keys": lambda _, key: key,
    "values": operator.getitem,
    "items": lambda mapping, key: (key, mapping[key]),
}
"""What the views of a mapping give for each of its keys."""


class _Values:
    """The nodes of a growing graph, run as far as somebody asks: on fake tensors, or for real (``mode`` None).

    A part whose result depends on data cannot run on fake tensors: it runs for real, and its result is faked.
    """

    def __init__(self, inputs: tuple[Any, ...], mode: FakeTensorMode | None) -> None:
        self.mode = mode
        self.real = None if mode is None else _Values(inputs, None)
        self.inputs = iter(self._faked(inputs))
        self.env: dict[fx.Node, Any] = {}
        self.done: fx.Node | None = None
        self.failure: Exception | None = None
        self.busy = (
            False  # a symbolic value that a part kept may ask for itself while that part runs
        )

    def _faked(self, value: Any) -> Any:
        convert = torch.clone if self.mode is None else self.mode.from_tensor
        return tree_map(lambda x: convert(x) if isinstance(x, Tensor) else x, value)

    def of(self, wanted: fx.Node, tracer: Tracer) -> Any:
        """The value of a node; all before it run first and in order, as they may write into one another."""
        if wanted not in self.env and (self.busy or self.failure is not None or wanted._erased):
            raise TypeError("a value that depends on data is asked for") from self.failure
        while wanted not in self.env:
            node = self.done.next if self.done is not None else next(iter(tracer.graph.nodes))
            if node not in self.env:
                try:
                    self.env[node] = self._run(node, tracer)
                except Exception as error:
                    self.failure = error
                    raise
            self.done = node
        return self.env[wanted]

    def rewind(self, last: fx.Node) -> None:
        """Forget what was erased after ``last``."""
        if self.done is not None and self.done._erased:
            self.done = last
        self.failure = None
        if self.real is not None:
            self.real.rewind(last)

    def _run(self, node: fx.Node, tracer: Tracer) -> Any:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.env.__getitem__)
        before, tracer.running, self.busy = tracer.running, True, True
        try:
            with self.mode or nullcontext(), torch.no_grad():
                return getattr(self, node.op)(tracer.root, node.target, args, kwargs)
        except Exception:
            if self.real is None or node.op != "call_module":
                raise
            return self._faked(self.real.of(node, tracer))
        finally:
            tracer.running, self.busy = before, False

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


def _is_library_leaf(m: nn.Module) -> bool:
    """Modules of torchvision without children, but for those that write into the list that they are given."""
    library = m.__module__.startswith("torchvision.ops") and not m.__module__.endswith(
        "feature_pyramid_network"
    )
    return library and not any(m.children())


def _timm_functions() -> tuple[Any, ...]:
    """The functions that timm itself registers as leaves, if timm is there: a model of it has imported it."""
    layers = sys.modules.get("timm.layers")
    return tuple(layers.get_notrace_functions()) if layers is not None else ()


def drop_unused(graph_module: fx.GraphModule) -> None:
    """Remove what nothing uses, but for what writes into a tensor or asserts something."""
    graph_module.graph.eliminate_dead_code(
        lambda node: node.is_impure() or _writes(node, graph_module)
    )
    graph_module.recompile()


def _writes(node: fx.Node, graph_module: fx.GraphModule) -> bool:
    if node.op == "call_module":
        return bool(getattr(graph_module.get_submodule(str(node.target)), "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    in_place = name in {"setitem", "__setitem__"} or (
        name.endswith("_") and not name.endswith("__")
    )
    return (
        in_place
        or (node.op == "call_function" and name in _IN_PLACE_OPERATORS)
        or bool(node.kwargs.get("inplace"))
    )


_IN_PLACE_OPERATORS = {
    name for name in dir(operator) if name.startswith("i") and name[1:] in dir(operator)
}
