"""Lowering: fused attention becomes explicit projections with the same function, so that its heads can grow.

A fused module (``nn.MultiheadAttention``, torchvision's window attention) keeps the number of heads in an attribute, so
coupling must refuse to grow it. Its lowered form has as many heads as its projections write.
To add one: a row in ``ROWS`` and a file for its family.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from fxgrow.lowering.heads import Pieces
from fxgrow.lowering.maxvit import lower_relative
from fxgrow.lowering.multihead import lower_multihead
from fxgrow.lowering.timm_vit import lower_timm
from fxgrow.lowering.transformer import PLAIN_LAYERS
from fxgrow.lowering.windows import lower_windows

Row = Callable[[Any, Pieces], nn.Module]

_MODELS = "torchvision.models"


def qualified_name(kind: type[nn.Module]) -> str:
    """The name of a class, by which it is known without importing its package."""
    return f"{kind.__module__}.{kind.__qualname__}"


LOWERINGS: dict[str, Row] = {
    qualified_name(nn.MultiheadAttention): lower_multihead,
    f"{_MODELS}.swin_transformer.ShiftedWindowAttention": lower_windows,
    f"{_MODELS}.swin_transformer.ShiftedWindowAttentionV2": lower_windows,
    f"{_MODELS}.video.swin_transformer.ShiftedWindowAttention3d": lower_windows,
    f"{_MODELS}.maxvit.RelativePositionalMultiHeadAttention": lower_relative,
    "timm.layers.attention.Attention": lower_timm,
}
"""How modules of a class (exactly that one, subclasses may do something else) are lowered."""

_LAYERS = (nn.Linear, NonDynamicallyQuantizableLinear)
_CALLED = (nn.Sequential, nn.Identity, nn.Dropout, nn.LayerNorm, nn.RMSNorm)
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def lower(model: nn.Module) -> nn.Module:
    """A copy of ``model`` in which attention that is known has explicit projections ``q``, ``k``, ``v`` and ``out``.

    The function is the same in train and eval mode, to rounding, and so are the classes of all other modules, dtype,
    device, ``requires_grad``, ``training`` and what is tied. The names of the lowered modules' parameters change, and
    with them the keys of the state dict: load a checkpoint first, then lower. A module without a row stays as it is;
    so does one that has hooks or parts that its class did not make, or that shares a parameter with what stays.
    """
    copied = copy.deepcopy(model)
    fused = _fused(copied)
    pieces: Pieces = {}
    made = {
        id(module): LOWERINGS[qualified_name(type(module))](module, pieces).train(module.training)
        for module in fused
    }
    for parent in list(copied.modules()):
        for name, child in parent._modules.items():
            parent._modules[name] = made.get(id(child), child)
    lowered = made.get(id(copied), copied)
    return _plain(lowered)


def _fused(model: nn.Module) -> list[nn.Module]:
    """The modules to replace: all that have a row and can be taken apart."""
    chosen = [
        module
        for module in model.modules()
        if qualified_name(type(module)) in LOWERINGS and _intact(module)
    ]
    while True:
        outside = {id(parameter) for parameter in _beside(model, chosen)}
        kept = [module for module in chosen if outside.isdisjoint(map(id, module.parameters()))]
        if len(kept) == len(chosen):
            return kept
        chosen = kept


def _intact(module: nn.Module) -> bool:
    """Whether nothing hangs on a module, and its parts are those that its own class reads the weights of."""
    hooked = any(getattr(part, hooks) for part in module.modules() for hooks in _HOOKS)
    return not hooked and all(
        type(part) in _LAYERS or isinstance(part, _CALLED) for part in module.children()
    )


def _beside(module: nn.Module, chosen: Sequence[nn.Module]) -> Iterator[nn.Parameter]:
    """The parameters that can be reached without going through one of the chosen modules."""
    if not any(module is one for one in chosen):
        yield from module.parameters(recurse=False)
        for child in module.children():
            yield from _beside(child, chosen)


def _plain(model: nn.Module) -> nn.Module:
    """The model with torch's own transformer layers as plain ones."""
    for module in model.modules():
        if type(module) in PLAIN_LAYERS:
            module.__class__ = PLAIN_LAYERS[type(module)]
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = (
                False  # which only its fused kernel takes; a user's subclass asks for it too
            )
    return model
