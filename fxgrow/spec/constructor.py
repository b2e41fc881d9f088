"""Modules and the arguments of their constructors, both ways.

A module is described by what its class's ``__init__`` takes, read from the attributes of the same
names, with a table for the exceptions. The description is verified by building the module from it
on the meta device: the same tensors and the same plain attributes must come out.
"""

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from fxgrow.documents import limits
from fxgrow.errors import SpecError
from fxgrow.spec.allowlist import CONTAINER, Trust, class_named, name_of_class
from fxgrow.spec.arguments import decode, encode, references
from fxgrow.spec.error_codes import error_location
from fxgrow.spec.models import ModuleSpec

_RNN = (
    "input_size",
    "hidden_size",
    "num_layers",
    "bias",
    "batch_first",
    "dropout",
    "bidirectional",
)

# Constructors that take *args: the arguments that they pass on.
_PARAMETERS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.RNN: (*_RNN, "nonlinearity"),
    nn.LSTM: (*_RNN, "proj_size"),
    nn.GRU: _RNN,
    nn.modules.linear.NonDynamicallyQuantizableLinear: ("in_features", "out_features", "bias"),
}

_Reader = Callable[[Any], Any]


def _has(attribute: str) -> _Reader:
    return lambda module: getattr(module, attribute) is not None


_ACTIVATIONS: dict[Any, str] = {nn.functional.relu: "relu", nn.functional.gelu: "gelu"}

# How to read arguments that are not an attribute of the same name.
_READERS: dict[tuple[type[nn.Module], str], _Reader] = {
    (nn.MultiheadAttention, "bias"): _has("in_proj_bias"),
    (nn.MultiheadAttention, "add_bias_kv"): _has("bias_k"),
    (nn.TransformerEncoderLayer, "d_model"): lambda m: m.self_attn.embed_dim,
    (nn.TransformerEncoderLayer, "nhead"): lambda m: m.self_attn.num_heads,
    (nn.TransformerEncoderLayer, "dim_feedforward"): lambda m: m.linear1.out_features,
    (nn.TransformerEncoderLayer, "dropout"): lambda m: m.dropout.p,
    (nn.TransformerEncoderLayer, "activation"): lambda m: _ACTIVATIONS.get(
        m.activation, m.activation
    ),
    (nn.TransformerEncoderLayer, "layer_norm_eps"): lambda m: m.norm1.eps,
    (nn.TransformerEncoderLayer, "batch_first"): lambda m: m.self_attn.batch_first,
    (nn.TransformerEncoderLayer, "bias"): lambda m: m.linear1.bias is not None,
}

# Where a tensor belongs does not come from the constructor; tensors bring their own dtype.
_SKIPPED = frozenset(("self", "device", "dtype"))
# What a constructor may raise when its arguments make no sense.
_CONSTRUCTOR_ERRORS = (
    TypeError, ValueError, RuntimeError, AssertionError, ArithmeticError, LookupError,
    AttributeError, MemoryError,
)  # fmt: skip
_MAX_TENSORS = 2**16


Rebuilt = dict[tuple[str, str], nn.Module]
"""Modules by their class and configuration."""


def describe_module(
    name: str, module: nn.Module, trust: Trust, rebuilt: Rebuilt | None = None
) -> ModuleSpec:
    """Record one leaf module, verified by rebuilding it.

    Args:
        name: The module's path in the model.
        module: The module.
        trust: Names that the caller allows beyond the allow-list.
        rebuilt: What was rebuilt before; another module of the same class and configuration is
            compared with that.

    Returns:
        The record: the class by name and the arguments of its constructor.

    Raises:
        SpecError: ``unknown-class``, ``bad-config``, ``bad-argument`` or ``patched-module``, with
            the module's name as path.
    """
    with error_location(f"modules[{name}]"):
        type_name = name_of_class(type(module), trust)
        _check_unpatched(module)
        config = {key: encode(value) for key, value in _configuration(module).items()}
        spec = ModuleSpec(name=name, type=type_name, config=config)
        rebuilt = {} if rebuilt is None else rebuilt
        key = type_name, repr(config)
        # The layers of most models are of few configurations.
        if key not in rebuilt:
            rebuilt[key] = build_module(spec, trust)
        _check_same(module, rebuilt[key])
        return spec


def build_module(spec: ModuleSpec, trust: Trust, max_tensors: int = _MAX_TENSORS) -> nn.Module:
    """Build the module of a record on the meta device: no memory, no random numbers, no weights.

    Args:
        spec: The record.
        trust: Names that the caller allows beyond the allow-list.
        max_tensors: The most layers that a recurrent module may have, so that a small file cannot
            ask for a module of any size.

    Returns:
        The module in eval mode.

    Raises:
        SpecError: ``unknown-class`` or ``bad-config``.
    """
    cls = class_named(spec.type, trust)
    for argument in spec.config.values():
        if any(True for _ in references(argument)):
            raise SpecError(
                "bad-config",
                f"a constructor argument of {spec.name!r} refers to a node; give a plain value",
            )
    config = {key: decode(argument, str) for key, argument in spec.config.items()}
    # Above all not device: it would allocate what the meta device does not.
    known = {name for name, _ in _parameters(cls)}
    unknown = next(iter(config.keys() - known), None)
    if unknown is not None:
        raise SpecError(
            "bad-config", f"{spec.type} has no argument {unknown!r} that a spec may give; remove it"
        )
    layers = config.get("num_layers", 1)
    if not isinstance(layers, int) or layers > max_tensors:
        raise SpecError(
            "bad-config",
            f"num_layers={layers!r} of {spec.name!r} asks for more tensors than are listed",
        )
    try:
        # Constructors warn about empty tensors and the like: about the model, which is not the
        # caller's doing.
        with torch.device("meta"), warnings.catch_warnings(action="ignore"):
            return cls(**config).eval()
    except _CONSTRUCTOR_ERRORS as error:
        reason = str(error)[: limits.MESSAGE]
        raise SpecError(
            "bad-config",
            f"{spec.type} cannot be built from its configuration ({reason}); correct it",
        ) from error


def tensors_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter and buffer, tied and non-persistent ones included."""
    named = (
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    )
    return {name: tuple(tensor.shape) for name, tensor in named}


def container(name: str) -> ModuleSpec:
    """The record of a module that only holds others."""
    return ModuleSpec(name=name, type=CONTAINER)


_ABSENT = object()


def _configuration(module: nn.Module) -> dict[str, Any]:
    """The constructor's arguments by name, without optional ones that the module does not keep."""
    configuration: dict[str, Any] = {}
    for name, is_required in _parameters(type(module)):
        value = _read(module, name, is_required)
        if value is not _ABSENT:
            configuration[name] = value
    return configuration


def _parameters(cls: type[nn.Module]) -> list[tuple[str, bool]]:
    """Names of the constructor's arguments, and whether they must be given."""
    if cls in _PARAMETERS:
        return [(name, True) for name in _PARAMETERS[cls]]
    if cls.__init__ is nn.Module.__init__:
        return []
    return _signature_parameters(cls)


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _signature_parameters(cls: type[nn.Module]) -> list[tuple[str, bool]]:
    parameters: list[tuple[str, bool]] = []
    for parameter in inspect.signature(cls.__init__).parameters.values():
        name = parameter.name
        if name in _SKIPPED:
            continue
        if parameter.kind in _VARIADIC:
            # nn.Identity takes anything and ignores it.
            if cls is not nn.Identity:
                raise SpecError(
                    "bad-config",
                    f"the constructor of {cls.__name__} takes *args, so its arguments are unknown",
                )
        # A leading underscore is torch's mark for private arguments, such as the ready-made weights
        # of an embedding.
        elif name[0] != "_":
            parameters.append((name, parameter.default is parameter.empty))
    return parameters


def _read(module: nn.Module, name: str, is_required: bool) -> Any:
    """The value of a constructor's argument, or ``_ABSENT``."""
    reader = _READERS.get((type(module), name))
    value = reader(module) if reader is not None else getattr(module, name, _ABSENT)
    # The argument is a flag, the attribute of the same name is the tensor or None.
    if name == "bias" and (value is None or isinstance(value, torch.Tensor)):
        return value is not None
    if name == "num_features" and value is _ABSENT:
        # torchvision's FrozenBatchNorm2d does not keep it.
        weight = getattr(module, "weight", None)
        if isinstance(weight, torch.Tensor):
            return len(weight)
    if value is _ABSENT and is_required:
        raise SpecError(
            "bad-config",
            f"{type(module).__name__} does not keep its constructor's {name!r}; store it as an "
            "attribute",
        )
    return value


def _check_unpatched(module: nn.Module) -> None:
    for owner in module.modules():
        hooks = owner._forward_hooks or owner._forward_pre_hooks
        if hooks or "forward" in vars(owner):
            raise SpecError(
                "patched-module",
                f"a {type(owner).__name__} has hooks or its own forward, which would be lost; "
                "remove it",
            )


def _check_same(module: nn.Module, rebuilt: nn.Module) -> None:
    """Check that a module has the tensors and plain attributes that its constructor makes."""
    shapes, rebuilt_shapes = tensors_of(module), tensors_of(rebuilt)
    for name in {**shapes, **rebuilt_shapes}:
        shape, rebuilt_shape = shapes.get(name), rebuilt_shapes.get(name)
        if shape != rebuilt_shape:
            raise SpecError(
                "bad-config",
                f"{name!r} is {shape} but its constructor makes {rebuilt_shape}; update the "
                "module's attributes to its tensors",
            )
    rebuilt_modules = dict(rebuilt.named_modules())
    for name, inner in module.named_modules():
        if name in rebuilt_modules:
            rebuilt_attributes = _plain_attributes(rebuilt_modules[name])
            _check_attributes(name, _plain_attributes(inner), rebuilt_attributes)


def _check_attributes(
    name: str, attributes: Mapping[str, Any], rebuilt_attributes: Mapping[str, Any]
) -> None:
    """Attributes that the constructor sets must be as it sets them; further ones are notes."""
    for key, value in rebuilt_attributes.items():
        if key in attributes and not _equal(attributes[key], value):
            path = f"{name}.{key}".lstrip(".")
            raise SpecError(
                "bad-config",
                f"attribute {path!r} is {attributes[key]!r} but its constructor makes {value!r}; "
                "update the attribute it derives from",
            )


def _equal(a: Any, b: Any) -> bool:
    both_nan = isinstance(a, float) and a != a and b != b
    return bool(a == b) or both_nan


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    """Attributes that are numbers, texts and the like; the mode is not the constructor's."""
    plain: dict[str, Any] = {}
    for key, value in vars(module).items():
        if key != "training" and _is_plain(value):
            plain[key] = value
    return plain


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
