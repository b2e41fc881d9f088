"""Networks whose layer weights are composed of parts, while all else is a task's own.

All else: biases, normalizations, the head, and layers that are neither convolutions nor linear.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fxgrow.continual.head import HEAD_TYPES


def layer_weights(model: nn.Module, head: str) -> tuple[str, ...]:
    """List the weights of all convolutions and linear layers but the head.

    Args:
        model: the network.
        head: the path of its head.

    Returns:
        The names of the weights; one that two layers share occurs once.
    """
    weight_names: set[str] = set()
    for path, module in model.named_modules():
        if isinstance(module, HEAD_TYPES) and path != head:
            weight_names.add(f"{path}.weight")
    # named_parameters gives a shared parameter once, under its first name.
    return tuple(name for name, _ in model.named_parameters() if name in weight_names)


def without_weights(network: nn.Module, names: tuple[str, ...]) -> nn.Module:
    """Copy a network and empty some of its parameters.

    Args:
        network: the network.
        names: the names of the parameters that hold nothing afterwards.

    Returns:
        The copy.
    """
    emptied = copy.deepcopy(network)
    parameters = dict(emptied.named_parameters())
    for name in names:
        # Assigned to .data: the parameter object, which others may share, stays the same.
        parameters[name].data = parameters[name].data.new_empty(0)
        parameters[name].requires_grad = False
    return emptied


def with_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Copy a network with emptied parameters and fill them.

    Args:
        network: the network, as ``without_weights`` gives it.
        weights: the values of the emptied parameters, by name.

    Returns:
        The copy, in evaluation mode.
    """
    filled = copy.deepcopy(network)
    parameters = dict(filled.named_parameters())
    for name, weight in weights.items():
        parameters[name].data = weight.detach().clone()
        parameters[name].requires_grad = True
    return filled.eval()


class ComposedNetwork(nn.Module):
    """A network some of whose weights are computed by modules, anew in every forward pass.

    Its parameters are those of the network but the named ones, and those of the parts.

    Args:
        network: the network; it is copied.
        parts: by name of a weight a module that gives this weight when it is called.
    """

    def __init__(self, network: nn.Module, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.names = tuple(parts)
        self.network = without_weights(network, self.names)
        self.parts = nn.ModuleList(parts.values())

    def weights(self) -> dict[str, Tensor]:
        """Compute the weights as they are now, by name."""
        return {name: part() for name, part in zip(self.names, self.parts, strict=True)}

    def forward(self, *inputs: Any) -> Any:
        return functional_call(self.network, self.weights(), inputs)

    @torch.no_grad()
    def plain(self) -> nn.Module:
        """Give the network with the weights as they are now, without parts, in evaluation mode."""
        return with_weights(self.network, self.weights())
