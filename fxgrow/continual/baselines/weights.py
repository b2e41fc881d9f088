"""Networks whose layer weights are put together from parts, while all else (biases, norms, head) is a task's own."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fxgrow.continual.head import HEAD_TYPES


def layer_weights(model: nn.Module, head: str) -> tuple[str, ...]:
    """The names of the weights of all convolutions and linear layers but the head, weights held twice named once."""
    layers = [
        path
        for path, module in model.named_modules()
        if isinstance(module, HEAD_TYPES) and path != head
    ]
    names = {f"{path}.weight" for path in layers}
    return tuple(name for name, _ in model.named_parameters() if name in names)


def without_weights(network: nn.Module, names: tuple[str, ...]) -> nn.Module:
    """A copy of ``network`` in which the parameters ``names`` hold nothing."""
    copied = copy.deepcopy(network)
    parameters = dict(copied.named_parameters())
    for name in names:
        parameters[name].data = parameters[name].data.new_empty(0)
        parameters[name].requires_grad = False
    return copied


def with_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a hollow network with these weights, in evaluation mode."""
    copied = copy.deepcopy(network)
    parameters = dict(copied.named_parameters())
    for name, weight in weights.items():
        parameters[name].data = weight.detach().clone()
        parameters[name].requires_grad = True
    return copied.eval()


class ComposedNetwork(nn.Module):
    """``network`` with the weights that ``parts`` give when they are called, one module for each name of a weight.

    Its parameters are those of the network but the named ones, and those of the parts.
    """

    def __init__(self, network: nn.Module, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.names = tuple(parts)
        self.network = without_weights(network, self.names)
        self.parts = nn.ModuleList(parts.values())

    def weights(self) -> dict[str, Tensor]:
        """The weights as they are now."""
        return {name: part() for name, part in zip(self.names, self.parts, strict=True)}

    def forward(self, *inputs: Any) -> Any:
        return functional_call(self.network, self.weights(), inputs)

    @torch.no_grad()
    def plain(self) -> nn.Module:
        """The network on its own, in evaluation mode."""
        return with_weights(self.network, self.weights())
