"""What a master network knows of one task, and how it knows that nothing of it has changed."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fxgrow.capture import moved
from fxgrow.continual.entries import Masks
from fxgrow.growth.objective import evaluating
from fxgrow.surgery.resize import tensors


@dataclass(frozen=True, eq=False)
class TaskState:
    """A task that was learnt.

    ``masks``: which neurons of the master network are its own network's; ``own``: the tensors that it shares with no
    other task, by name, in the shapes of its own network; ``fingerprint``: of that network (``fingerprint``);
    ``probe``: an input, and ``said``: what the network said to it when it was learnt.
    """

    name: str
    classes: int
    masks: Masks
    own: Mapping[str, Tensor]
    fingerprint: str
    probe: tuple[Tensor, ...]
    said: tuple[Tensor, ...]

    def with_masks(self, masks: Masks) -> "TaskState":
        """The same task in a larger master network."""
        return replace(self, masks=masks)

    def to(self, network: nn.Module, device: torch.device | str) -> "TaskState":
        """The same task on ``device``, with what its ``network`` says there."""
        own, probe = moved((dict(self.own), self.probe), device)
        return replace(self, own=own, probe=probe, said=says(network, probe))


def fingerprint(network: nn.Module) -> str:
    """SHA-256 over the names, shapes, dtypes and bytes of all parameters and buffers."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors(network).items()):
        plain = tensor.detach().cpu().contiguous()
        found.update(f"{name} {tuple(plain.shape)} {plain.dtype}\n".encode())
        found.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


@torch.no_grad()
def says(network: nn.Module, probe: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """All tensors of what ``network`` gives in evaluation mode."""
    with evaluating(network):
        given: Any = network(*probe)
    return tuple(leaf.detach().clone() for leaf in tree_leaves(given) if isinstance(leaf, Tensor))


def same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> bool:
    """Whether both are equal to the last bit."""
    return len(found) == len(expected) and all(map(torch.equal, found, expected))
