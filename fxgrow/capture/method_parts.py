"""Methods of a model that cannot be traced, as parts of its graph.

A detector computes boxes from what its heads give, by a method that branches on data. It holds no
parameter: so one call of it may stand in the graph, as one of an opaque part does, and the rest of
the model is traced. A method that needs a parameter of its model is no such part: it fails there.
"""

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from fxgrow.capture.tracer import Tracer
from fxgrow.user_lines import frames_of

_PREFIX = "fxgrow_method_"


class MethodPart(nn.Module):
    """A method of a module, called on what the module holds besides parameters.

    Args:
        owner: the module.
        name: the name of the method.
    """

    def __init__(self, owner: nn.Module, name: str) -> None:
        super().__init__()
        self.name = name
        # In a tuple, so that its parts are not taken for parts of this one.
        self.owner = (_without_parameters(owner),)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.owner[0], self.name)(*args, **kwargs)


def _without_parameters(module: nn.Module) -> nn.Module:
    """A module with the attributes of another one, without all that neurons may lie in."""
    bare: nn.Module = object.__new__(type(module))
    vars(bare).update(vars(module))
    parts = {name: part for name, part in module.named_children() if not _holds_reals(part)}
    vars(bare).update(_parameters={}, _buffers={}, _modules=parts)
    return bare


def _holds_reals(module: nn.Module) -> bool:
    tensors = (*module.parameters(), *module.buffers())
    return any(tensor.is_floating_point() or tensor.is_complex() for tensor in tensors)


def failing_method(model: nn.Module, error: BaseException) -> tuple[str, str] | None:
    """The outermost method of a model's module, but for ``forward``, through which an error came.

    Args:
        model: the model.
        error: what its forward raised on symbolic values.

    Returns:
        The path of the module and the name of the method; None if there is none.
    """
    paths = {id(module): path for path, module in model.named_modules()}
    found = None
    for frame, _ in frames_of(error):  # the innermost first
        owner, name = frame.f_locals.get("self"), frame.f_code.co_name
        is_method = id(owner) in paths and name != "forward" and not name.startswith("_")
        if is_method and _is_own_method(owner, name, frame.f_code):
            found = paths[id(owner)], name
    return found


def _is_own_method(owner: Any, name: str, code: Any) -> bool:
    method = getattr(type(owner), name, None)
    return getattr(method, "__code__", None) is code and not hasattr(nn.Module, name)


def put_in(model: nn.Module, methods: Iterable[tuple[str, str]], tracer: Tracer) -> None:
    """Have calls of some methods traced as calls of parts; the model is put back with its state.

    Args:
        model: the model that is about to be traced.
        methods: the path of the module and the name of each.
        tracer: makes the nodes.
    """
    # All parts before any method is replaced: each holds the attributes of its module.
    parts = [(path, name, MethodPart(model.get_submodule(path), name)) for path, name in methods]
    for number, (path, name, part) in enumerate(parts):
        target = f"{_PREFIX}{number}_{name}"
        model.add_module(target, part)
        owner = model.get_submodule(path)
        vars(owner)[name] = _traced_method(tracer, target, getattr(owner, name))


def _traced_method(tracer: Tracer, target: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if tracer.is_running():
            return method(*args, **kwargs)
        return tracer.create_proxy("call_module", target, args, kwargs)

    return call
