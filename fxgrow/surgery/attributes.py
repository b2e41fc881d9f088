"""Sizes that modules keep beside their parameters, and the value of new entries in carriers.

One row per family of modules. Every attribute is computed from the shapes of the parameters as they
are now.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.weight_norm import WeightNorm

from fxgrow.errors import GrowthError

SizeAttributes = Callable[[Any], dict[str, int]]


def _convolution(module: _ConvNd) -> dict[str, int]:
    # The weight is [out, in / groups, ...]. A depthwise convolution has one group per input
    # channel, so its number of groups follows; the old attributes tell whether it is one.
    is_depthwise = module.groups > 1 and module.groups == module.in_channels
    out = module.weight.shape[0]
    groups = module.groups
    if is_depthwise:
        outputs_per_input = module.out_channels // module.in_channels
        groups = out // outputs_per_input
    return {"out_channels": out, "in_channels": module.weight.shape[1] * groups, "groups": groups}


def _transposed(module: _ConvTransposeNd) -> dict[str, int]:
    # The weight is [in, out / groups, ...].
    is_depthwise = module.groups > 1 and module.groups == module.in_channels
    groups = module.weight.shape[0] if is_depthwise else module.groups
    return {
        "in_channels": module.weight.shape[0],
        "out_channels": module.weight.shape[1] * groups,
        "groups": groups,
    }


def _linear(module: nn.Linear) -> dict[str, int]:
    return {"out_features": module.weight.shape[0], "in_features": module.weight.shape[1]}


def _bilinear(module: nn.Bilinear) -> dict[str, int]:
    out, first, second = module.weight.shape
    return {"out_features": out, "in1_features": first, "in2_features": second}


def _embedding(module: nn.Embedding) -> dict[str, int]:
    return {"num_embeddings": module.weight.shape[0], "embedding_dim": module.weight.shape[1]}


_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}
"""How many rows of a recurrent layer's weights one neuron owns, by the layer's mode."""


def _recurrent(module: Any) -> dict[str, int]:
    # Weights are [gates * hidden, input], [gates * hidden, hidden or projection] and, of a
    # projection, [projection, hidden].
    rows, read = module.weight_hh_l0.shape
    hidden = rows // _GATES[module.mode]
    return {
        "hidden_size": hidden,
        "input_size": module.weight_ih_l0.shape[1],
        "proj_size": read if module.proj_size else 0,
    }


def _recurrent_cell(module: nn.RNNCellBase) -> dict[str, int]:
    # Weights are [gates * hidden, input] and [gates * hidden, hidden].
    return {
        "hidden_size": module.weight_hh.shape[1],
        "input_size": module.weight_ih.shape[1],
    }


def _prelu(module: nn.PReLU) -> dict[str, int]:
    return {"num_parameters": module.weight.shape[0]}


def _group_norm(module: nn.GroupNorm) -> dict[str, int]:
    # Without a weight nothing tells the size: then the coupling does.
    weight: Tensor | None = module.weight
    if weight is None:
        return {}
    channels, groups = weight.shape[0], module.num_groups
    if groups > 1:  # groups keep their size; one group of all channels stays one
        groups = channels // (module.num_channels // groups)
    return {"num_channels": channels, "num_groups": groups}


# Transposed convolutions first: they are convolutions too, and the first row that fits counts.
SIZE_ATTRIBUTES: dict[type[nn.Module], SizeAttributes] = {
    _ConvTransposeNd: _transposed,
    _ConvNd: _convolution,
    nn.Linear: _linear,
    nn.Bilinear: _bilinear,
    nn.Embedding: _embedding,
    nn.RNNBase: _recurrent,
    nn.RNNCellBase: _recurrent_cell,
    nn.PReLU: _prelu,
    nn.GroupNorm: _group_norm,
}

NORM_TYPES = _NormBase
ROW_NORM_TYPES = (nn.LayerNorm, nn.RMSNorm)
"""The norms over a whole row, which keep its shape."""
NEW_ENTRY_IN_NORM = {"weight": 1.0, "running_var": 1.0, "bias": 0.0, "running_mean": 0.0}
"""A new channel of a normalization with running statistics starts as the identity."""


def sync_size_attributes(module: nn.Module) -> None:
    """Bring the sizes that a module keeps as attributes in line with its parameters."""
    refresh_weights(module)
    for kind, attributes in SIZE_ATTRIBUTES.items():
        if isinstance(module, kind):
            for name, value in attributes(module).items():
                setattr(module, name, value)
            if isinstance(module, nn.RNNBase):
                module.flatten_parameters()  # cuDNN wants all weights in one piece of memory
            return
    if isinstance(module, NORM_TYPES):
        _sync_norm(module)
    # Without a weight nothing tells the size: then the coupling does.
    if isinstance(module, ROW_NORM_TYPES) and module.weight is not None:
        module.normalized_shape = tuple(module.weight.shape)


def _sync_norm(module: Any) -> None:
    # Without affine weights the running mean tells the size; without either nothing does.
    vector = module.weight
    if vector is None:
        vector = module.running_mean
    if vector is not None:
        module.num_features = vector.shape[0]


def require_sizes_of_torch(model: nn.Module) -> None:
    """Check what torch demands of the sizes of its layers where it does not say so itself.

    Args:
        model: a model that has grown.

    Raises:
        GrowthError: ``wide-projection``.
    """
    for module in model.modules():
        if isinstance(module, nn.RNNBase) and module.proj_size >= module.hidden_size:
            raise GrowthError(
                "wide-projection",
                f"a projection of {module.proj_size} neurons would not be smaller than the "
                f"{module.hidden_size} neurons of its recurrent layer, which torch does not allow; "
                "grow the layer's hidden size, too",
            )


@torch.no_grad()
def refresh_weights(module: nn.Module) -> None:
    """Compute anew the weights that the old ``weight_norm`` keeps beside their parts."""
    for hook in weight_norm_hooks(module):
        setattr(module, hook.name, hook.compute_weight(module))


def weight_norm_hooks(module: nn.Module) -> list[WeightNorm]:
    """The weight normalizations of the old form, which are hooks of a module."""
    hooks = module._forward_pre_hooks.values()
    return [hook for hook in hooks if isinstance(hook, WeightNorm)]


def has_size_attributes(kind: type[nn.Module]) -> bool:
    """Whether modules of a kind compute with whatever sizes their parameters have."""
    return issubclass(kind, (*SIZE_ATTRIBUTES, NORM_TYPES))


def new_entry_value(module: nn.Module, name: str, tensor: Tensor) -> float | complex:
    """The value that a new entry of a carrying parameter or buffer starts from.

    Args:
        module: the module that holds it.
        name: its name there.
        tensor: the parameter or buffer itself.

    Returns:
        The value of the identity for a normalization, 1 for a mask, else the mean of the old
        entries.
    """
    stem = name.removesuffix("_orig")  # what torch.nn.utils.prune makes of a parameter
    if isinstance(module, NORM_TYPES) and stem in NEW_ENTRY_IN_NORM:
        return NEW_ENTRY_IN_NORM[stem]
    if tensor.is_meta:
        return 0.0
    if not isinstance(tensor, nn.Parameter) and _is_mask(tensor):
        return 1.0
    mean: float | complex = tensor.detach().mean().item()
    return mean


def _is_mask(tensor: Tensor) -> bool:
    """Whether a tensor holds zeros and ones, both of them, and nothing else."""
    zeros, ones = (tensor == 0).sum(), (tensor == 1).sum()
    return bool(zeros) and bool(ones) and int(zeros + ones) == tensor.numel()


def set_integer(module: nn.Module, name: str, keys: tuple[int | str, ...], value: int) -> None:
    """Set an integer that a module holds in an attribute, or in a container in an attribute.

    Args:
        module: the module.
        name: the attribute.
        keys: where the integer is in the attribute, if that is a container.
        value: its new value.
    """
    setattr(module, name, _with_value(getattr(module, name), keys, value))


def _with_value(container: Any, keys: tuple[int | str, ...], value: int) -> Any:
    """A copy of a container with one number changed: other models may hold the container too."""
    if not keys:
        return value
    first, rest = keys[0], keys[1:]
    if isinstance(container, dict):
        return {**container, first: _with_value(container[first], rest, value)}
    items = list(container)
    items[int(first)] = _with_value(items[int(first)], rest, value)
    return type(container)(items)
