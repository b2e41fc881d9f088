"""Batch norms of the base model while nothing of them is trained: y = a x + b, a and b constant.

Autograd keeps the input of a batch norm, though its weights are frozen; it keeps nothing of a
product with a constant. In the over-grown graph of a VGG that is 2 of 5 kept tensors.
"""

import torch
from torch import Tensor, fx, nn

_NORM_TYPES = frozenset((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))


class FrozenNorm(nn.Module):
    """A batch norm in evaluation mode, without gradients for its weights.

    Args:
        norm: the batch norm. In training mode it is called as it is.

    Shapes:
        ``[batch, channels, ...]`` to the same shape.
    """

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.norm.running_mean, self.norm.running_var
        if self.norm.training or mean is None or variance is None or x.dtype != mean.dtype:
            return self.norm(x)  # type: ignore[no-any-return]
        # (x - m) / sqrt(v + e) * g + b as x * scale + shift.
        scale = 1 / (variance + self.norm.eps).sqrt()
        if self.norm.affine:
            scale = scale * self.norm.weight.detach()
        shift = -mean * scale
        if self.norm.affine:
            shift = shift + self.norm.bias.detach()
        shape = (1, -1, *[1] * (x.dim() - 2))  # [1, channels, 1, ...]
        return torch.addcmul(shift.reshape(shape), x, scale.reshape(shape))


def freeze_norms(graph: fx.Graph, root: nn.Module, holder: str) -> None:
    """Call every plain batch norm of a graph through a ``FrozenNorm``.

    Args:
        graph: the graph; its nodes get other targets.
        root: the module that the graph's targets are in.
        holder: the path in ``root`` of the module that takes the ``FrozenNorm``s. Batch norms
            inside it belong to candidates, which are trained, and are left alone.
    """
    inserted = root.get_submodule(holder)
    for node in graph.find_nodes(op="call_module"):
        target = str(node.target)
        norm = root.get_submodule(target)
        if type(norm) not in _NORM_TYPES or target.startswith(f"{holder}."):
            continue
        # A batch norm that is called several times gets one FrozenNorm.
        name = f"frozen_{target.replace('.', '_')}"
        if not hasattr(inserted, name):
            inserted.add_module(name, FrozenNorm(norm))  # type: ignore[arg-type]
        node.target = f"{holder}.{name}"
