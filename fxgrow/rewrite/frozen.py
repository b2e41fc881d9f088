"""Batch norms of the base model as what they are while nothing of them learns: y = a x + b with constant a and b.

Autograd keeps the input of a batch norm, though its weights are frozen; it keeps nothing of a product with a constant.
In the over-grown graph of a VGG that is 2 of 5 kept tensors.
"""

import torch
from torch import Tensor, fx, nn

_NORM_TYPES = frozenset((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))


class FrozenNorm(nn.Module):
    """``norm`` in evaluation mode, without gradients for its weights; in training mode ``norm`` itself."""

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.norm.running_mean, self.norm.running_var
        if self.norm.training or mean is None or variance is None or x.dtype != mean.dtype:
            return self.norm(x)  # type: ignore[no-any-return]
        scale = 1 / (variance + self.norm.eps).sqrt()
        if self.norm.affine:
            scale = scale * self.norm.weight.detach()
        shift = -mean * scale
        if self.norm.affine:
            shift = shift + self.norm.bias.detach()
        shape = (1, -1, *[1] * (x.dim() - 2))
        return torch.addcmul(shift.reshape(shape), x, scale.reshape(shape))


def freeze_norms(graph: fx.Graph, root: nn.Module, holder: str) -> None:
    """Let every plain batch norm that the graph calls outside ``holder`` be called through a ``FrozenNorm`` in it."""
    for node in graph.find_nodes(op="call_module"):
        target = str(node.target)
        norm = root.get_submodule(target)
        if type(norm) in _NORM_TYPES and not target.startswith(f"{holder}."):
            name = f"frozen_{target.replace('.', '_')}"
            if not hasattr(root.get_submodule(holder), name):
                root.get_submodule(holder).add_module(name, FrozenNorm(norm))  # type: ignore[arg-type]
            node.target = f"{holder}.{name}"
