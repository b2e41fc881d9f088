"""What of ``fully_shard`` can grow, and what is refused by name before any work."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, distributed, nn
from torch.distributed.fsdp import CPUOffloadPolicy
from torch.distributed.tensor import DTensor, Replicate, Shard

from fxgrow.errors import ModelError
from fxgrow.sharding.units import groups_of


def _does_not_shard(group: Any) -> bool:
    return not hasattr(group.mesh_info, "shard_mesh_size")


def _is_part_of_the_group(group: Any) -> bool:
    return int(group.mesh_info.mesh.size()) != distributed.get_world_size()


_UNIT_RULES: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (
        _does_not_shard,
        "was given to replicate(), whose parameters are whole; wrap the model in "
        "DistributedDataParallel",
    ),
    (
        lambda group: group.mesh_info.is_spmd_mesh,
        "was given dp_mesh_dims to fully_shard, so its parameters are cut along other dimensions, "
        "too; grow the model before it is distributed",
    ),
    (
        _is_part_of_the_group,
        "was sharded on a mesh that does not hold all processes of the group, and growth is a call "
        "of all of them; grow the model before fully_shard",
    ),
    (
        lambda group: isinstance(group.offload_policy, CPUOffloadPolicy),
        "was given CPUOffloadPolicy to fully_shard, and shards that lie elsewhere than the model "
        "computes are not gathered; grow the model before fully_shard",
    ),
)
"""What a unit may not be: how to know it, and the end of the sentence."""


def _is_cut_by_rows(parameter: DTensor) -> bool:
    return parameter.placements in ((Shard(0),), (Replicate(), Shard(0)))


def _has_hooks(parameter: Any) -> bool:
    return bool(parameter._backward_hooks) or bool(
        getattr(parameter, "_post_accumulate_grad_hooks", None)
    )


_PARAMETER_RULES: tuple[tuple[Callable[[DTensor], bool], str], ...] = (
    (
        lambda parameter: parameter.device_mesh.size() != distributed.get_world_size(),
        "is sharded on a mesh that does not hold all processes of the group; grow the model before "
        "it is distributed",
    ),
    (
        lambda parameter: not _is_cut_by_rows(parameter),
        "is not cut by rows alone (tensor parallelism, or another dimension of "
        "shard_placement_fn); grow the model before it is distributed",
    ),
    (
        lambda parameter: type(parameter._local_tensor) is not Tensor,
        "is a shard of another library's tensors; grow the model with plain ones, then convert it",
    ),
    (
        _has_hooks,
        "has hooks, which would be lost: a grown shard is another object; remove them and register "
        "them anew on the grown model",
    ),
)
"""What a parameter may not be: how to know it, and the end of the sentence."""


def require_growable_shards(model: nn.Module) -> None:
    """Check that a model to which ``fully_shard`` was applied can grow.

    Args:
        model: its weights are sharded now (``reshard``).

    Raises:
        ModelError: ``wrapped-model``.
    """
    for path, module in model.named_modules():
        for group in groups_of(module):
            for is_refused, why in _UNIT_RULES:
                if is_refused(group):
                    raise ModelError("wrapped-model", f"{path or 'the model'!r} {why}")
    for name, parameter in model.named_parameters():
        for is_refused, why in _PARAMETER_RULES:
            if isinstance(parameter, DTensor) and is_refused(parameter):
                raise ModelError("wrapped-model", f"{name!r} {why}")
