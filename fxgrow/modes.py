"""Modes that hold for a while: of a module, attention, autograd, the threads of a program."""

import gc
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

_ONE_AT_A_TIME = threading.RLock()
"""Held while models are captured, coupled or grown: torch.fx patches torch for all threads."""


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode; on exit every submodule is back in the mode that it was in.

    Args:
        model: any module. Submodules may be in different modes (a frozen batch norm, say).

    Example:
        >>> with evaluation_mode(model):
        ...     output = model(inputs)
    """
    was_training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in was_training.items():
            module.training = training


def clear_caches(model: nn.Module) -> None:
    """Have modules forget what they computed of their parameters, as they do in ``train()``.

    Some keep that for evaluation mode (LeViT its attention biases), and clear it in a ``train`` of
    their own: the parameters may change from then on.

    Args:
        model: a model whose parameters have changed; every module stays in its mode.

    Example:
        >>> clear_caches(model)
    """
    was_training = {module: module.training for module in model.modules()}
    for module, training in was_training.items():
        if type(module).train is nn.Module.train or not _keeps_tensors(module):
            continue
        try:
            module.train()
            module.train(training)
        except Exception:  # noqa: BLE001 - a model's own code may raise anything, and keeps its cache
            continue
    for module, training in was_training.items():
        module.training = training


def _keeps_tensors(module: nn.Module) -> bool:
    """Whether a module holds tensors beside its parameters, buffers and modules."""
    own = {name: value for name, value in vars(module).items() if name not in _REGISTRIES}
    return any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(own))


_REGISTRIES = {"_parameters", "_buffers", "_modules"}


@contextmanager
def frozen_parameters(model: nn.Module, *, except_for: Collection[str] = ()) -> Iterator[None]:
    """Stop gradients for the parameters of a model; on exit each ``requires_grad`` is what it was.

    Args:
        model: any module. The flag belongs to the parameter object, so a parameter that is resized
        in place inside
            the context gets its flag back too.
        except_for: names of parameters that do receive gradients inside, whether they did before or
        not.

    Example:
        >>> with frozen_parameters(model, except_for=["head.weight"]):
        ...     loss(model(inputs), target).backward()
    """
    flags = {parameter: parameter.requires_grad for parameter in model.parameters()}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in except_for)
    try:
        yield
    finally:
        for parameter, requires_grad in flags.items():
            parameter.requires_grad_(requires_grad)


@contextmanager
def without_autocast(model: nn.Module) -> Iterator[None]:
    """Take away the ``forward`` by which Accelerate computes a model in mixed precision.

    It casts the inputs of every product, so that a graph of it says little of the model. On exit
    the model computes as before.

    Args:
        model: any module; one that Accelerate did not prepare so is left alone.

    Example:
        >>> with without_autocast(model):
        ...     captured = capture(model, inputs)
    """
    kept = {name: vars(model).get(name) for name in ("forward", "_original_forward")}
    original: Any = kept["_original_forward"]
    if original is None or kept["forward"] is None:
        yield
        return
    for name in kept:
        delattr(model, name)
    # That of the class needs no place of its own.
    if getattr(original, "__func__", None) is not type(model).forward:
        model.forward = original
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(model, name, value)


@contextmanager
def plain_attention() -> Iterator[None]:
    """Run attention layers operator by operator; fused, they hide their projections and masks.

    Example:
        >>> with plain_attention():
        ...     output = encoder(inputs)
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def exclusive_autograd() -> Iterator[None]:
    """Work on models as if no other thread did, with autograd at hand.

    A second thread waits. Inside, gradients can be taken and tensors that are made are ordinary
    ones, whether the caller is in ``torch.no_grad`` or ``torch.inference_mode`` or in neither.

    Example:
        >>> with torch.no_grad(), exclusive_autograd():
        ...     gradients = torch.autograd.grad(loss(model(inputs)), weights)
    """
    with _ONE_AT_A_TIME, torch.inference_mode(mode=False), torch.enable_grad():
        yield


@contextmanager
def garbage_collection_off() -> Iterator[None]:
    """Save the time of garbage collection where nearly all the small objects that are made live on.

    Each full collection goes through all objects of the program, those of torch among them.

    Example:
        >>> with garbage_collection_off():
        ...     graph = fx.symbolic_trace(model)
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
