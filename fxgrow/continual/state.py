"""What a master network keeps of one task, and how it detects that anything of it has changed."""

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
    """A task that was learned.

    Args:
        name: its name.
        classes: how many classes it has.
        masks: by name of a width, which neurons of the master network its own network has.
        own: by name the tensors that it shares with no other task, in the shapes of its network.
        fingerprint: of its network, as ``tensor_fingerprint`` gives it.
        reference_inputs: some of its inputs.
        reference_outputs: what its network gave for them when it was learned.
    """

    name: str
    classes: int
    masks: Masks
    own: Mapping[str, Tensor]
    fingerprint: str
    reference_inputs: tuple[Tensor, ...]
    reference_outputs: tuple[Tensor, ...]

    def with_masks(self, masks: Masks) -> "TaskState":
        """Give the same task in a larger master network."""
        return replace(self, masks=masks)

    def to(self, network: nn.Module, device: torch.device | str) -> "TaskState":
        """Move the task to a device.

        Args:
            network: its network, on that device.
            device: the device.

        Returns:
            The same task, with the outputs that its network gives there.
        """
        # Outputs are computed anew: another device rounds differently.
        own, reference_inputs = move_to((dict(self.own), self.reference_inputs), device)
        return replace(
            self,
            own=own,
            reference_inputs=reference_inputs,
            reference_outputs=eval_outputs(network, reference_inputs),
        )


def tensor_fingerprint(network: nn.Module) -> str:
    """Compute SHA-256 over the names, shapes, dtypes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(named_tensors(network).items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(plain.shape)} {plain.dtype}\n".encode())
        # As bytes, so that -0.0 differs from 0.0 and a NaN equals itself.
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def eval_outputs(network: nn.Module, reference_inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Compute the output of a network in evaluation mode.

    Args:
        network: the network.
        reference_inputs: its positional arguments.

    Returns:
        All tensors of the output, in order.
    """
    with evaluation_mode(network):
        output: Any = network(*reference_inputs)
    leaves = tree_leaves(output)
    return tuple(leaf.detach().clone() for leaf in leaves if isinstance(leaf, Tensor))


def bit_equal(outputs: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> bool:
    """Tell whether two outputs are equal to the last bit."""
    return len(outputs) == len(expected) and all(map(torch.equal, outputs, expected))
