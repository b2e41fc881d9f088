"""A torch.fx tracer that goes on where torch.fx gives up.

A part whose own forward cannot be traced becomes a leaf on the spot: its nodes are taken back and
one call of it stands in their place. With ``decide`` the tracer first answers what Python asks of a
symbolic value (``if x.shape[2] > 7``, ``range(len(xs))``) from the example inputs, run beside the
trace on fake tensors, and writes the answer into the graph as an assertion, so that other inputs
raise instead of going down the wrong branch. Fake tensors have no values, so what depends on data
is never decided: that part stays opaque.
"""

import operator
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, MappingView
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import rnn
from torch.utils._pytree import tree_leaves, tree_map

from fxgrow.capture.hooks import UNTRACED_HOOK, has_hooks, hook_numbers, replaced_forward
from fxgrow.capture.in_place import writes_in_place
from fxgrow.capture.inputs import argument_names
from fxgrow.capture.node_values import NodeValues
from fxgrow.capture.parts import first_line, why_untraced
from fxgrow.capture.running import ModelState
from fxgrow.user_lines import packages_of

_NOT_AS_CAPTURED = (
    "is not as in the inputs that the graph was captured for; capture again with such inputs. "
    "There it was"
)

_module_call = nn.Module.__call__
"""A call of a module with its hooks; while a model is traced, ``nn.Module`` has another one."""


_PACKING = (rnn.pack_padded_sequence, rnn.pad_packed_sequence)
"""Functions that read lengths, which symbolic values have not; they become nodes."""


class Tracer(fx.Tracer):
    """A tracer of one model.

    Leaves are torch's own modules, library modules that hold no others, and the opaque parts.

    Args:
        model: the model.
        inputs: its positional arguments.
        opaque: the parts that are opaque from the start: by path, why.
        decide: answer what Python asks of symbolic values from the inputs.
        changing: the numbers of the hooks that change values.
    """

    proxy_buffer_attributes = True

    def __init__(
        self,
        model: nn.Module,
        inputs: tuple[Any, ...],
        opaque: dict[str, str],
        decide: bool,
        changing: Collection[int] = (),
    ) -> None:
        wrapped = (*_PACKING, *_torchvision_functions())
        if not decide:
            wrapped = (*wrapped, *_timm_functions())
        super().__init__(autowrap_functions=wrapped)
        # These modules' own names for them, too: ``nn.utils.rnn.pack_padded_sequence``.
        self._autowrap_search += [rnn, *filter(None, [sys.modules.get("torchvision.ops")])]
        self.inputs = inputs
        self.state = ModelState(model)  # a part may keep the symbolic values that it was fed
        self.opaque = dict(opaque)
        self.packages = packages_of(model)
        # (Path, result as nodes) of every part, in the order in which they finished.
        self.calls: list[tuple[str, Any]] = []
        self.values: NodeValues | None = None
        if decide:
            self.values = NodeValues(inputs, FakeTensorMode(allow_non_fake_inputs=True))
        # While nodes are run for their values, modules are called and not traced.
        self.running = False
        self.changing = frozenset(changing)
        # Modules whose class does not say what they compute (``layer.forward = ...``).
        self.own_forwards = {id(module) for module in model.modules() if "forward" in vars(module)}
        # By path, the hooks of a leaf that are in the graph.
        self.traced_hooks: dict[str, set[int]] = {}
        # torch.fx patches torch for all threads; those that are not tracing must notice nothing.
        self.thread = threading.get_ident()

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
        """Arguments with tensors become placeholders; None and other plain values stay."""
        arguments: list[Any] = [self.root]
        for name, value in zip(argument_names(self.root, self.inputs), self.inputs, strict=True):
            # Plain values get a placeholder, too: the graph takes the same arguments as the model.
            proxy = self.create_proxy("placeholder", name, (), {})
            has_tensor = any(isinstance(leaf, Tensor) for leaf in tree_leaves(value))
            arguments.append(proxy if has_tensor else value)
        if not has_hooks(self.root):
            return root_fn, arguments

        def with_hooks(root: nn.Module, *args: Any) -> Any:
            with replaced_forward(root, partial(root_fn, root)):
                return _module_call(root, *args)

        return with_hooks, arguments

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if module_qualified_name in self.opaque or _is_library_leaf(m):
            return True
        if type(m) in _TAKEN_APART or id(m) in self.own_forwards:
            return False
        return super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.is_running():
            return forward(*args, **kwargs)
        if self._is_made_on_the_way(m):
            return forward(*args, **kwargs)
        path = self.path_of_module(m)
        before = _Checkpoint(self)
        try:
            result = self._traced_call(m, path, forward, args, kwargs)
        except Exception as error:  # anything that the user's forward raises on symbolic values
            if self.is_leaf_module(m, path):
                raise
            self.opaque[path] = why_untraced(error, self.packages)
            before.restore()
            self.state.restore(m)
            return super().call_module(m, forward, args, kwargs)
        if path not in self.opaque:
            nodes = tree_map(lambda x: x.node if isinstance(x, fx.Proxy) else x, result)
            self.calls.append((path, nodes))
        return result

    def is_running(self) -> bool:
        """Whether what is called is not to be traced: it runs on values, or in another thread."""
        return self.running or threading.get_ident() != self.thread

    def _is_made_on_the_way(self, m: nn.Module) -> bool:
        """Whether a module is no part of the model and holds nothing (``nn.Softmax(-1)(x)``)."""
        if any(True for _ in (*m.parameters(), *m.buffers())):
            return False
        return not any(m is part for part in self.root.modules())

    def _traced_call(
        self, m: nn.Module, path: str, forward: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        """One call of a module. The hooks of a leaf are traced around a call of it without them.

        A hook that changes values and cannot be traced stays on the leaf, whose node says so.
        """
        call = super().call_module
        if path in self.opaque or not has_hooks(m) or not self.is_leaf_module(m, path):
            return call(m, forward, args, kwargs)
        changing = hook_numbers(m) & self.changing
        before = _Checkpoint(self)
        try:
            with replaced_forward(m, lambda *a, **k: call(m, forward, a, k)):
                result = forward(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the user's hook meets symbolic values
            before.restore()
            self.state.restore(m)
            result = call(m, forward, args, kwargs)
            if changing and isinstance(result, fx.Proxy):
                result.node.meta[UNTRACED_HOOK] = first_line(error)
            return result
        if changing:
            self.traced_hooks[path] = changing
        return result

    def create_arg(self, a: Any) -> Any:
        """What a node takes for a value.

        An object of some class is taken apart, to be put together in the graph.
        """
        if isinstance(a, fx.Proxy):
            return a.node
        try:
            return super().create_arg(a)
        except NotImplementedError:
            if not hasattr(a, "__dict__") or callable(a):
                raise
            kind = f"{type(a).__module__}:{type(a).__qualname__}"
            arguments = (kind, self.create_arg(vars(a)))
            return self.create_node("call_function", rebuild_output, arguments, {})

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self.is_running():
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self) if self.values is None else _KnownProxy(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        return super().to_bool(obj) if self.values is None else bool(self.decided(obj, bool))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        if self.values is None:
            return super().iter(obj)
        value = self.values.value_of(obj.node, self)
        if isinstance(value, Mapping):
            return iter(list(value))
        if isinstance(value, MappingView):
            return self._iter_view(obj.node)
        return (operator.getitem(obj, i) for i in range(self.decided(obj, len)))

    def _iter_view(self, node: fx.Node) -> Iterator[Any]:
        """What ``keys()``, ``values()`` or ``items()`` of a mapping gives, as symbolic values."""
        if self.values is None:
            raise TypeError("a mapping is iterated over whose keys are not known")
        mapping = node.all_input_nodes[0]
        make_entry = _VIEW_ENTRIES[str(node.target)]
        proxy = self.proxy(mapping)
        return iter([make_entry(proxy, key) for key in self.values.value_of(mapping, self)])

    def decided(self, proxy: Any, question: Callable[[Any], Any]) -> Any:
        """The answer of the example inputs to a question.

        Where other inputs of the same structure may answer differently, the graph asserts it.

        Args:
            proxy: a symbolic value.
            question: a function of its value (``bool``, ``len``, ``int`` ...).

        Returns:
            What the function gives for the example inputs.
        """
        if self.values is None:
            raise TypeError("the value of a traced expression is asked for")
        value = self.values.value_of(proxy.node, self)
        answer = question(value)
        if isinstance(value, (Tensor, bool, int, float)):
            message = f"{proxy.node.name} {_NOT_AS_CAPTURED} {answer}"
            torch._assert(self._condition(proxy, question, value, answer), message)
        return answer

    def _condition(
        self, proxy: Any, question: Callable[[Any], Any], value: Any, answer: Any
    ) -> Any:
        """The symbolic truth of "the answer is the same"."""
        if question is bool:
            if answer:
                return proxy
            return self.create_proxy("call_function", operator.not_, (proxy,), {})
        # Of a tensor only the length can be asked for.
        return (proxy.shape[0] if isinstance(value, Tensor) else proxy) == answer


class _Checkpoint:
    """A state of the trace that can be gone back to."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.last = next(iter(reversed(tracer.graph.nodes)))
        self.depth = len(tracer.module_stack)
        self.calls = len(tracer.calls)

    def restore(self) -> None:
        """Erase all that came after, except parameters, whose nodes fx remembers."""
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
    """An object with these attributes, made without calling its constructor.

    Args:
        kind: its class, ``module:name``, of a module that is imported already.
        attributes: its attributes.

    Returns:
        The object.
    """
    module, _, name = kind.partition(":")
    rebuilt = object.__new__(operator.attrgetter(name)(sys.modules[module]))
    rebuilt.__dict__.update(attributes)
    return rebuilt


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
        return key in value if isinstance(value, Mapping) else any(key == entry for entry in self)

    def __getattr__(self, k: str) -> Any:
        # Protocols of other libraries (``__array__``), which a symbolic value does not have.
        if k.startswith("__"):
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


_VIEW_ENTRIES: dict[str, Callable[[Any, Any], Any]] = {
    "keys": lambda _, key: key,
    "values": operator.getitem,
    "items": lambda mapping, key: (key, mapping[key]),
}
"""What the views of a mapping give for each of its keys."""


_TAKEN_APART = (
    nn.TransformerEncoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoder,
    nn.TransformerDecoderLayer,
    nn.Transformer,
)
"""Modules of torch's own that hold layers which can grow; only their attention stays a leaf."""


def _is_library_leaf(m: nn.Module) -> bool:
    """Modules of torchvision without children, unless they write into the list they are given."""
    if not m.__module__.startswith("torchvision.ops"):
        return False
    if m.__module__.endswith("feature_pyramid_network"):
        return False
    return not any(m.children())


def _torchvision_functions() -> tuple[Any, ...]:
    """The functions of torchvision that stand for one operator, if a model has imported them."""
    deform_conv = sys.modules.get("torchvision.ops.deform_conv")
    return (deform_conv.deform_conv2d,) if deform_conv is not None else ()


def _timm_functions() -> tuple[Any, ...]:
    """The functions that timm itself registers as leaves, if a model of it has imported timm."""
    layers = sys.modules.get("timm.layers")
    return tuple(layers.get_notrace_functions()) if layers is not None else ()


def drop_unused(graph_module: fx.GraphModule) -> None:
    """Remove the nodes that nothing uses, unless they write into a tensor or assert something."""
    graph_module.graph.eliminate_dead_code(
        lambda node: node.is_impure() or writes_in_place(node, graph_module)
    )
    graph_module.recompile()
