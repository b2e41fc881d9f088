"""How much memory a training step takes, counted on shapes before the first one is taken."""

import torch
from torch import Tensor, nn

from fxgrow.coupling import meta_copy, meta_inputs
from fxgrow.errors import TrainingError
from fxgrow.memory import device_of, require_memory

_EXAMPLES = 2
"""Of so many a pass is counted: batch norm cannot be trained on one."""


def require_step_memory(model: nn.Module, images: Tensor, batch_size: int) -> None:
    """Check that what a training step keeps for its backward pass fits into memory.

    Args:
        model: what is trained.
        images: of the training set; the first two are looked at, and only their shapes.
        batch_size: images per step.

    Raises:
        TrainingError: ``too-large``, with the number of bytes.

    Example:
        >>> require_step_memory(model, torch.empty(50000, 3, 32, 32, device="meta"), batch_size=128)
    """
    count = min(batch_size, len(images))
    kept = _kept_bytes(model, images[:_EXAMPLES]) * count // _EXAMPLES
    what = f"the activations of a training step on {count} images of {tuple(images.shape[1:])}"
    advice = "take fewer images per step, smaller ones, or a smaller model"
    require_memory(kept, what, advice, TrainingError, device_of(model))


def _kept_bytes(model: nn.Module, images: Tensor) -> int:
    """The bytes that autograd keeps of a pass; 0 if the model does not run on the meta device."""
    bare = meta_copy(model).train()
    own = {id(parameter) for parameter in bare.parameters()}
    kept: dict[int, int] = {}
    # A storage that is freed may give its number away.
    held: list[torch.UntypedStorage] = []

    def note(tensor: Tensor) -> Tensor:
        if id(tensor) not in own:
            storage = tensor.untyped_storage()
            held.append(storage)
            kept[storage._cdata] = storage.nbytes()
        # An output would keep itself alive: through its function, and what that keeps.
        return tensor.detach()

    try:
        with (
            torch.enable_grad(),
            torch.random.fork_rng(devices=[]),
            torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        ):
            bare(*meta_inputs((images,)))
    except Exception:  # noqa: BLE001 - whatever the model's own code raises there
        return 0
    return sum(kept.values())
