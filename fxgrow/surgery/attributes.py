"""Sizes that modules keep beside their parameters, and what fresh entries of a carrying parameter start from.

One row per family of modules. Every attribute is computed from the shapes of the parameters as they are now.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

SizeAttributes = Callable[[Any], dict[str, int]]


def _convolution(module: _ConvNd) -> dict[str, int]:
    depthwise = module.groups > 1 and module.groups == module.in_channels
    rate = module.out_channels // module.in_channels if depthwise else 1
    out = module.weight.shape[0]
    groups = out // rate if depthwise else module.groups
    return {"out_channels": out, "in_channels": module.weight.shape[1] * groups, "groups": groups}


def _transposed(module: _ConvTransposeNd) -> dict[str, int]:
    depthwise = module.groups > 1 and module.groups == module.in_channels
    groups = module.weight.shape[0] if depthwise else module.groups
    return {
        "in_channels": module.weight.shape[0],
        "out_channels": module.weight.shape[1] * groups,
        "groups": groups,
    }


SIZE_ATTRIBUTES: dict[type[nn.Module], SizeAttributes] = {
    _ConvTransposeNd: _transposed,
    _ConvNd: _convolution,
    nn.Linear: lambda m: {"out_features": m.weight.shape[0], "in_features": m.weight.shape[1]},
    nn.Bilinear: lambda m: dict(
        zip(("out_features", "in1_features", "in2_features"), m.weight.shape, strict=True)
    ),
    nn.Embedding: lambda m: {
        "num_embeddings": m.weight.shape[0],
        "embedding_dim": m.weight.shape[1],
    },
    nn.RNNBase: lambda m: {
        "hidden_size": m.weight_hh_l0.shape[1],
        "input_size": m.weight_ih_l0.shape[1],
    },
    nn.PReLU: lambda m: {"num_parameters": m.weight.shape[0]},
}

NORM_TYPES = _NormBase
NEW_ENTRY_IN_NORM = {"weight": 1.0, "running_var": 1.0, "bias": 0.0, "running_mean": 0.0}
"""A fresh channel of a normalisation with running statistics starts as the identity."""


def sync_size_attributes(module: nn.Module) -> None:
    """Bring the sizes that a module keeps as attributes in line with its parameters."""
    for kind, attributes in SIZE_ATTRIBUTES.items():
        if isinstance(module, kind):
            for name, value in attributes(module).items():
                setattr(module, name, value)
            return
    if isinstance(module, NORM_TYPES):
        vector = next((t for t in (module.weight, module.running_mean) if t is not None), None)
        if vector is not None:
            module.num_features = vector.shape[0]


def has_size_attributes(kind: type[nn.Module]) -> bool:
    """Whether modules of a kind compute with whatever sizes their parameters have."""
    return issubclass(kind, (*SIZE_ATTRIBUTES, NORM_TYPES))


def new_entry_value(module: nn.Module, name: str, tensor: Tensor) -> float:
    """What a fresh entry of a carrying parameter or buffer starts from: the identity, else the mean of the others."""
    if isinstance(module, NORM_TYPES):
        return NEW_ENTRY_IN_NORM.get(name, 0.0)
    return 0.0 if tensor.is_meta else float(tensor.detach().mean())
