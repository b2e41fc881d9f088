"""Models that are no plain modules of torch: what can be grown of them, in one sentence."""

import sys
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from fxgrow.errors import ModelError

_QUANTIZED_PACKAGES = (
    "torch.ao.nn.quantized",
    "torch.ao.nn.intrinsic.quantized",
    "torch.ao.nn.sparse.quantized",
    "torch.nn.quantized",
    "bitsandbytes",
)

_FLOATING_KINDS = {"FloatFunctional", "FXFloatFunctional"}
"""Classes in these packages whose operators are those of floating point: torch's "quantizable"
models have them, ready to be quantized."""

ModuleCheck = Callable[[nn.Module], bool]


def _has_class(package: str, name: str) -> ModuleCheck:
    """Whether a module is of a class, whose package need not be imported for it."""

    def check(module: nn.Module) -> bool:
        loaded = sys.modules.get(package)
        kind = getattr(loaded, name, None)
        return kind is not None and isinstance(module, kind)

    return check


def _replicates(module: nn.Module) -> bool:
    return isinstance(module, nn.DataParallel) and len(module.device_ids) > 0


def _is_quantized(module: nn.Module) -> bool:
    kind = type(module)
    if kind.__module__.startswith(_QUANTIZED_PACKAGES) and kind.__name__ not in _FLOATING_KINDS:
        return True
    own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
    return any(tensor.is_quantized for tensor in own)


_WRAPPERS: tuple[tuple[ModuleCheck, str], ...] = (
    (
        lambda module: isinstance(module, nn.parallel.DistributedDataParallel),
        "its buckets hold the old sizes; grow its .module and wrap the grown model",
    ),
    (_replicates, "it runs replicas of its .module; grow that and wrap the grown model"),
    (
        _has_class("torch.distributed.fsdp", "FullyShardedDataParallel"),
        "its parameters are shards of flat ones; grow the model before it is sharded",
    ),
    (
        _has_class("torch.distributed.fsdp", "FSDPModule"),
        "its parameters are shards; couple, widen, grow and Grower take it as it is, anything else "
        "the model before fully_shard",
    ),
    (
        _has_class("torch._dynamo.eval_frame", "OptimizedModule"),
        "it is compiled for the old sizes; grow its ._orig_mod and compile the grown model",
    ),
    (
        lambda module: isinstance(module, torch.jit.ScriptModule),
        "it is TorchScript, whose code cannot be rewritten; grow the module that it was made from",
    ),
)
"""Modules whose shapes are held elsewhere, too: how to know them, and why with what to do."""

TensorCheck = Callable[[Tensor], bool]


def _is_sharded(tensor: Tensor) -> bool:
    loaded = sys.modules.get("torch.distributed.tensor")
    return loaded is not None and isinstance(tensor, loaded.DTensor)


_FOREIGN_TENSORS: tuple[tuple[TensorCheck, str], ...] = (
    (
        _is_sharded,
        "is a shard of a distributed tensor; grow the model before it is distributed",
    ),
    (
        is_traceable_wrapper_subclass,
        "is a tensor of another library's kind; grow the model with plain tensors, then convert it",
    ),
)
"""Tensors whose shapes are held elsewhere, too: how to know them, and why with what to do."""

_WITHOUT_VALUES: tuple[tuple[TensorCheck, str], ...] = (
    (
        lambda tensor: tensor.is_meta,
        "is on the meta device, so there is no loss; load the weights first, or use widen",
    ),
    (
        lambda tensor: tensor.is_inference(),
        "was made in torch.inference_mode, so it can have no gradient; make the model outside of "
        "it, or load its state_dict into one that was",
    ),
)
"""Tensors that no loss can be differentiated by."""


def require_growable_model(model: nn.Module, *, values: bool = False) -> None:
    """Check that a model is made of plain modules and tensors.

    Args:
        model: the model.
        values: whether its values are needed, too, and not shapes alone.

    Raises:
        ModelError: ``wrapped-model``, ``quantized-model``, ``uninitialized``; ``no-values``.
    """
    for path, module in model.named_modules():
        kind = type(module).__name__
        part = f"{path!r} is a {kind}" if path else f"the model is a {kind}"
        for is_wrapper, advice in _WRAPPERS:
            if is_wrapper(module):
                raise ModelError("wrapped-model", f"{part}, which cannot change its size: {advice}")
        if _is_quantized(module):
            raise ModelError(
                "quantized-model",
                f"{part} of quantized weights, which are packed and cannot change their size; grow "
                "the model in floating point and quantize it then",
            )
    # Its graph has the names of attributes, and coupling would have others.
    if _names(model.named_parameters()) != _names(nn.Module.named_parameters(model)):
        kind = type(model).__name__
        raise ModelError(
            "wrapped-model",
            f"the model is a {kind}, whose parameters have other names than where they are; grow "
            "the module inside it and wrap the grown model",
        )
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        _require_growable_tensor(f"{name!r} of {type(model).__name__}", tensor, values)


def _names(named: Iterable[tuple[str, Tensor]]) -> set[str]:
    return {name for name, _ in named}


def _require_growable_tensor(name: str, tensor: Tensor, values: bool) -> None:
    if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
        raise ModelError(
            "uninitialized",
            f"{name} has no shape yet; run the model once on its example inputs first",
        )
    for is_foreign, why in _FOREIGN_TENSORS:
        if is_foreign(tensor):
            raise ModelError("wrapped-model", f"{name} {why}")
    for has_no_values, why in _WITHOUT_VALUES if values else ():
        if has_no_values(tensor):
            raise ModelError("no-values", f"{name} {why}")
