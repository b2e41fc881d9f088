"""Modules and the arguments of their constructors, both ways.

A module is described by what its class's ``__init__`` takes, read from the attributes of the same names, with a table
for the exceptions. The description is checked by building the module from it on the meta device: the same tensors and
the same plain attributes must come out.
"""

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
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

# Constructors that take *args: what they take in truth.
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

# Arguments that are not an attribute of the same name.
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
    TypeError, ValueError, RuntimeError, AssertionError, ArithmeticError, LookupError, AttributeError, MemoryError,
)  # fmt: skip


def describe_module(name: str, module: nn.Module, trust: Trust) -> ModuleSpec:
    """The record of one leaf module, proven by rebuilding it.

    Raises SpecError: unknown-class, bad-config, bad-argument or patched-module, with the module's name as path.
    """
    with error_location(f"modules[{name}]"):
        type_name = name_of_class(type(module), trust)
        _check_unpatched(module)
        config = {key: encode(value) for key, value in _configuration(module).items()}
        spec = ModuleSpec(name=name, type=type_name, config=config)
        _check_same(module, build_module(spec, trust))
        return spec


def build_module(spec: ModuleSpec, trust: Trust, tensors: int = 2**16) -> nn.Module:
    """The module of a record, on the meta device: no memory, no random numbers, no weights.

    ``tensors`` bounds the layers of a recurrent module. Raises SpecError: unknown-class or bad-config.
    """
    cls = class_named(spec.type, trust)
    if any(True for argument in spec.config.values() for _ in references(argument)):
        raise SpecError(
            "bad-config",
            f"a constructor argument of {spec.name!r} refers to a node; give a plain value",
        )
    config = {key: decode(argument, str) for key, argument in spec.config.items()}
    # Not device above all: it would allocate what the meta device does not.
    unknown = next(iter(config.keys() - {name for name, _ in _parameters(cls)}), None)
    if unknown is not None:
        raise SpecError(
            "bad-config", f"{spec.type} has no argument {unknown!r} that a spec may give; remove it"
        )
    layers = config.get("num_layers", 1)
    if not isinstance(layers, int) or layers > tensors:
        raise SpecError(
            "bad-config",
            f"num_layers={layers!r} of {spec.name!r} asks for more tensors than are listed",
        )
    try:
        # Constructors warn about empty tensors and such: about the model, which the caller may not have written.
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


def _configuration(module: nn.Module) -> dict[str, Any]:
    cls = type(module)
    found = ((name, _read(module, name, required)) for name, required in _parameters(cls))
    return {name: value for name, value in found if value is not _ABSENT}


_ABSENT = object()


def _parameters(cls: type[nn.Module]) -> Iterable[tuple[str, bool]]:
    """Names of the constructor's arguments, and whether they must be given."""
    if cls in _PARAMETERS:
        return [(name, True) for name in _PARAMETERS[cls]]
    if cls.__init__ is nn.Module.__init__:
        return []
    parameters = [
        p for p in inspect.signature(cls.__init__).parameters.values() if p.name not in _SKIPPED
    ]
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if (
        any(p.kind in variadic for p in parameters) and cls is not nn.Identity
    ):  # takes anything and ignores it
        raise SpecError(
            "bad-config",
            f"the constructor of {cls.__name__} takes *args, so its arguments are unknown",
        )
    # A leading underscore is torch's mark for private arguments, such as the ready-made weights of an embedding.
    return [
        (p.name, p.default is p.empty)
        for p in parameters
        if p.kind not in variadic and p.name[0] != "_"
    ]


def _read(module: nn.Module, name: str, required: bool) -> Any:
    reader = _READERS.get((type(module), name))
    value = reader(module) if reader is not None else getattr(module, name, _ABSENT)
    if name == "bias" and (value is None or isinstance(value, torch.Tensor)):
        return value is not None
    if (
        name == "num_features"
        and value is _ABSENT
        and isinstance(getattr(module, "weight", None), torch.Tensor)
    ):
        return len(module.weight)  # type: ignore[arg-type]  # torchvision's FrozenBatchNorm2d
    if value is _ABSENT and required:
        raise SpecError(
            "bad-config",
            f"{type(module).__name__} does not keep its constructor's {name!r}; store it as an attribute",
        )
    return value


def _check_unpatched(module: nn.Module) -> None:
    for owner in module.modules():
        hooks = owner._forward_hooks or owner._forward_pre_hooks
        if hooks or "forward" in vars(owner):
            raise SpecError(
                "patched-module",
                f"a {type(owner).__name__} has hooks or its own forward, which would be lost; remove it",
            )


def _check_same(module: nn.Module, rebuilt: nn.Module) -> None:
    ours, theirs = tensors_of(module), tensors_of(rebuilt)
    wrong = next((key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)), None)
    if wrong is not None:
        raise SpecError(
            "bad-config",
            f"{wrong!r} is {ours.get(wrong)} but its constructor makes {theirs.get(wrong)}; update the module's "
            "attributes to its tensors",
        )
    for name, (inner, again) in _pairs(module, rebuilt).items():
        _check_attributes(name, _plain(vars(inner)), _plain(vars(again)))


def _pairs(module: nn.Module, rebuilt: nn.Module) -> dict[str, tuple[nn.Module, nn.Module]]:
    again = dict(rebuilt.named_modules())
    return {name: (inner, again[name]) for name, inner in module.named_modules() if name in again}


def _check_attributes(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Attributes that the constructor sets must be as it sets them; further ones are the user's notes."""
    for key, value in theirs.items():
        if key in ours and not _equal(ours[key], value):
            raise SpecError(
                "bad-config",
                f"attribute {f'{name}.{key}'.lstrip('.')!r} is {ours[key]!r} but its constructor makes {value!r}; "
                "update the attribute it derives from",
            )


def _equal(a: Any, b: Any) -> bool:
    return bool(a == b) or (isinstance(a, float) and a != a and b != b)


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value for key, value in attributes.items() if key != "training" and _is_plain(value)
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)
