"""What a master network knows of one task, and how it knows that nothing of it has changed."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fxgrow.capture import move_to
from fxgrow.continual.ownership import Masks
from fxgrow.modes import evaluation_mode
from fxgrow.surgery import named_tensors


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
    reference_inputs: tuple[Tensor, ...]
    reference_outputs: tuple[Tensor, ...]

    def with_masks(self, masks: Masks) -> "TaskState":
        """The same task in a larger master network."""
        return replace(self, masks=masks)

    def to(self, network: nn.Module, device: torch.device | str) -> "TaskState":
        """The same task on ``device``, with what its ``network`` says there."""
        own, reference_inputs = move_to((dict(self.own), self.reference_inputs), device)
        return replace(
            self,
            own=own,
            reference_inputs=reference_inputs,
            reference_outputs=eval_outputs(network, reference_inputs),
        )


def tensor_fingerprint(network: nn.Module) -> str:
    """SHA-256 over the names, shapes, dtypes and bytes of all parameters and buffers."""
    found = hashlib.sha256()
    for name, tensor in sorted(named_tensors(network).items()):
        plain = tensor.detach().cpu().contiguous()
        found.update(f"{name} {tuple(plain.shape)} {plain.dtype}\n".encode())
        found.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


@torch.no_grad()
def eval_outputs(network: nn.Module, reference_inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """All tensors of what ``network`` gives in evaluation mode."""
    with evaluation_mode(network):
        given: Any = network(*reference_inputs)
    return tuple(leaf.detach().clone() for leaf in tree_leaves(given) if isinstance(leaf, Tensor))


def bit_equal(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> bool:
    """Whether both are equal to the last bit."""
    return len(found) == len(expected) and all(map(torch.equal, found, expected))
