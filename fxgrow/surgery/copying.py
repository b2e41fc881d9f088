"""Copies of modules with tensors that have a history of autograd (``deepcopy`` refuses them)."""

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

Module = TypeVar("Module", bound=nn.Module)

_ATOMS = (type(None), bool, int, float, str)


def copy_model(model: Module) -> Module:
    """``copy.deepcopy`` of a model, whatever it remembers of its last run.

    Args:
        model: the model.

    Returns:
        A copy; tensors that autograd made (the weight of the old ``weight_norm``) are plain ones.
    """
    return copy.deepcopy(model, detached(model))


def detached(model: nn.Module) -> dict[int, Any]:
    """What stands for a model's tensors with a history in its copy, as the memo of ``deepcopy``."""
    memo: dict[int, Any] = {}
    for tensor in derived_tensors(model):
        memo[id(tensor)] = tensor.detach().clone()
    return memo


def derived_tensors(model: nn.Module) -> Iterator[Tensor]:
    """Tensors in attributes that have a history of autograd.

    They are what a model remembers of its last run, and the weight of torch's old ``weight_norm``.

    Args:
        model: the model to search.
    """
    for module in model.modules():
        for key, value in vars(module).items():
            if key.startswith("_") or type(value) in _ATOMS:
                continue
            for leaf in tree_leaves(value):
                if isinstance(leaf, Tensor) and leaf.grad_fn is not None:
                    yield leaf
