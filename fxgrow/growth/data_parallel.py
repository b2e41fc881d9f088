"""Models inside ``DistributedDataParallel``: what is inside grows, and is wrapped again in place.

Reference: Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training",
VLDB 2020, section 4: gradients are averaged in buckets whose sizes are those of the parameters when
the model was wrapped, so a grown model needs new buckets.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fxgrow.growth.budget import Budget
from fxgrow.ranks import Ranks
from fxgrow.sharding import record_of


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside ``DistributedDataParallel``; any other model itself."""
    inner: nn.Module = model.module if isinstance(model, DistributedDataParallel) else model
    return inner


def wrap_again(wrapped: DistributedDataParallel) -> None:
    """Make the buckets of a wrapped module anew for the sizes that its parameters have now.

    Args:
        wrapped: the wrapper. It stays the object that it is, with its settings and hooks of
            communication.
    """
    hooks = list(wrapped._comm_hooks)
    training = wrapped.training
    settings: dict[str, Any] = {
        "device_ids": wrapped.device_ids,
        "output_device": wrapped.output_device,
        "dim": wrapped.dim,
        "init_sync": False,  # all processes have grown alike
        "process_group": wrapped.process_group,
        "bucket_cap_mb": wrapped.bucket_bytes_cap / 2**20,
        "find_unused_parameters": wrapped.find_unused_parameters,
        "gradient_as_bucket_view": wrapped.gradient_as_bucket_view,
        "static_graph": wrapped.static_graph,
        "mixed_precision": wrapped.mixed_precision,
    }
    module, broadcasts = wrapped.module, wrapped.broadcast_buffers
    # Gradients may be views into the old buckets; one grows between two training steps.
    for parameter in module.parameters():
        parameter.grad = None
    DistributedDataParallel.__init__(wrapped, module, **settings)
    wrapped.broadcast_buffers = broadcasts  # which some versions of torch call otherwise
    wrapped.train(training)
    for hook, state in hooks:
        wrapped.register_comm_hook(state, hook)


def require_same_start(
    model: nn.Module, batches: int, budget: Budget, seed: int, ranks: Ranks
) -> None:
    """Check that all processes begin alike; buffers become those of the first one, as in training.

    Args:
        model: its buffers get new data.
        batches: how many growth batches this process has.
        budget: what may be added; latency is measured, and so is another number everywhere.
        seed: of the first directions.
        ranks: the processes.

    Raises:
        GrowthError: ``ranks-differ``, ``one-process``.
    """
    if ranks.count == 1:
        return
    if budget.latency is not None:
        ranks.require_alone("A budget of measured latency")
    ranks.require_same("numbers of growth batches", str(batches).encode())
    ranks.require_same("seeds", str(seed).encode())
    ranks.require_same("weights", _weights_as_bytes(model))
    buffers = list(model.buffers())
    for buffer, first in zip(buffers, ranks.of_first(buffers), strict=True):
        buffer.data = first


def require_same_end(model: nn.Module, ranks: Ranks) -> None:
    """Check that all processes have come to the same weights.

    Args:
        model: as it has grown.
        ranks: the processes.

    Raises:
        GrowthError: ``ranks-differ``.
    """
    if ranks.count > 1:
        ranks.require_same("grown weights", _weights_as_bytes(model))


def _weights_as_bytes(model: nn.Module) -> bytes:
    """The names and numbers of all parameters."""
    parts = []
    for name, parameter in model.named_parameters():
        parts.append(name.encode() + str(tuple(parameter.shape)).encode())
        # There is one of what is sharded; what each process has put in its part must be alike.
        record = record_of(parameter)
        parts.append(_as_bytes(parameter.detach()) if record is None else record)
    return b"".join(parts)


def _as_bytes(tensor: Tensor) -> bytes:
    flat = tensor.cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
