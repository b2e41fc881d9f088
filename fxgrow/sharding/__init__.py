"""Models to which ``torch.distributed.fsdp.fully_shard`` was applied (FSDP2).

``plain_inside`` makes such a model plain for a while; of other models it does nothing. Public is
what ``__all__`` lists. The rest of the package is imported where there is such a model: torch's
distributed tensors take time to import.
"""

import sys
from collections.abc import MutableMapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from fxgrow.errors import ModelError
from fxgrow.ranks import ALONE, Ranks

__all__ = [
    "is_gathered_on_use",
    "is_sharded",
    "keep_sharded",
    "plain_inside",
    "record_of",
    "require_unsharded",
    "require_whole",
    "sharing_ranks",
]


def is_sharded(model: nn.Module) -> bool:
    """Whether ``fully_shard`` was applied to a model or a part of it."""
    loaded = sys.modules.get("torch.distributed.fsdp")
    kind: Any = getattr(loaded, "FSDPModule", None)
    return kind is not None and any(isinstance(module, kind) for module in model.modules())


class _PlainModel:
    """What has nothing to be put back, nor sharded."""

    def becomes(
        self, module: nn.Module, optimizers: Sequence[Optimizer] = (), *, inplace: bool = True
    ) -> None:
        """Do nothing."""


def plain_inside(
    model: nn.Module, optimizers: Sequence[Optimizer] = ()
) -> AbstractContextManager[Any]:
    """Let a sharded model be plain inside, its parameters gathered where they are used.

    Args:
        model: any model.
        optimizers: its optimizers.

    Returns:
        A context manager that gives a ``ShardedModel``, or what stands for one of a plain model.
    """
    if not is_sharded(model):
        return nullcontext(_PlainModel())
    from fxgrow.sharding.sharded_model import taken_off  # torch's distributed tensors are slow

    return taken_off(model, optimizers)


def is_gathered_on_use(tensor: Tensor) -> bool:
    """Whether a tensor is one of a sharded model that is plain for a while."""
    loaded = sys.modules.get("fxgrow.sharding.gathering")
    return loaded is not None and isinstance(tensor, loaded.GatheringTensor)


def record_of(tensor: Any) -> bytes | None:
    """What was written into the tensors of a sharded model so far, as a hash.

    Args:
        tensor: one of them; any other tensor has no record.
    """
    if not is_gathered_on_use(tensor):
        return None
    digest: bytes = tensor.parts.layout.written.digest()
    return digest


def keep_sharded(parameter: Any, values: MutableMapping[str, Any]) -> None:
    """Cut what an optimizer keeps of a parameter that is gathered on use, as that is cut.

    Args:
        parameter: any parameter.
        values: what is kept of it; tensors of its shape are cut.
    """
    if not is_gathered_on_use(parameter):
        return
    for name, value in values.items():
        is_whole = isinstance(value, Tensor) and not is_gathered_on_use(value)
        if is_whole and value.shape == parameter.shape:
            values[name] = type(parameter)(parameter.parts.layout.cut(value))


def sharing_ranks(*modules: nn.Module) -> Ranks:
    """The processes that must run modules together, since each has parts of their parameters.

    Args:
        modules: any modules.

    Returns:
        This process alone where no parameter is gathered on use.
    """
    if "fxgrow.sharding.gathering" not in sys.modules:
        return ALONE
    for module in modules:
        for parameter in module.parameters():
            tensor: Any = parameter
            if is_gathered_on_use(tensor):
                found: Ranks = tensor.parts.layout.ranks
                return found
    return ALONE


def require_whole(model: nn.Module) -> None:
    """Check that this process has all weights of a model, to write them into a file.

    Args:
        model: any model, or a graph of its parts.

    Raises:
        ModelError: ``wrapped-model``.
    """
    if any(map(_is_shard, model.parameters())):
        raise ModelError(
            "wrapped-model",
            f"the weights of the {type(model).__name__} are sharded, and a file takes whole ones; "
            "save a checkpoint of all processes by save_sharded, or load the weights of "
            "get_model_state_dict(full_state_dict=True) into an unsharded model",
        )


def _is_shard(tensor: Tensor) -> bool:
    loaded = sys.modules.get("torch.distributed.tensor")
    is_distributed = loaded is not None and isinstance(tensor, loaded.DTensor)
    return is_distributed or is_gathered_on_use(tensor)


def require_unsharded(*models: nn.Module) -> None:
    """Check that models are whole, for what does not keep them sharded.

    Args:
        models: any models.

    Raises:
        ModelError: ``wrapped-model``.
    """
    for model in models:
        if is_sharded(model):
            raise ModelError(
                "wrapped-model",
                f"the model is a {type(model).__name__}, whose parameters are shards; couple, "
                "widen, grow and Grower take it as it is, anything else the model before "
                "fully_shard",
            )
