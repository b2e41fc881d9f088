"""Lowering: fused attention becomes explicit projections with the same function.

A fused module (``nn.MultiheadAttention``, torchvision's window attention) keeps the number of heads
in an attribute, so coupling must refuse to grow it. Its lowered form has as many heads as its
projections write. To add one: a row in ``LOWERINGS`` and a file for its family.

Modules of any other class, whose own code says how many heads there are, compute that from what
they reshape (``free_sizes``), if example inputs tell what they do.
"""

import copy
from collections.abc import Callable, Collection, Iterator
from typing import Any

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from fxgrow.argument_checks import checked
from fxgrow.capture import positional_inputs
from fxgrow.lowering.free_sizes import free_sizes
from fxgrow.lowering.heads import Pieces
from fxgrow.lowering.maxvit import lower_relative
from fxgrow.lowering.multihead import lower_multihead
from fxgrow.lowering.timm_vit import lower_timm
from fxgrow.lowering.transformer import PLAIN_LAYERS
from fxgrow.lowering.windows import lower_windows
from fxgrow.sharding import require_unsharded

Lowering = Callable[[Any, Pieces], nn.Module]
"""From a fused module to its lowered form, which holds the same parameters."""

_MODELS = "torchvision.models"


def qualified_name(kind: type[nn.Module]) -> str:
    """The name of a class, by which it is known without importing its package."""
    return f"{kind.__module__}.{kind.__qualname__}"


LOWERINGS: dict[str, Lowering] = {
    qualified_name(nn.MultiheadAttention): lower_multihead,
    f"{_MODELS}.swin_transformer.ShiftedWindowAttention": lower_windows,
    f"{_MODELS}.swin_transformer.ShiftedWindowAttentionV2": lower_windows,
    f"{_MODELS}.video.swin_transformer.ShiftedWindowAttention3d": lower_windows,
    f"{_MODELS}.maxvit.RelativePositionalMultiHeadAttention": lower_relative,
    "timm.layers.attention.Attention": lower_timm,
}
"""How modules of a class are lowered. Exactly that class: a subclass may do something else."""

# The parts that the fused classes make for themselves: layers whose weights they read, and modules
# that they call.
_WEIGHT_TYPES = (nn.Linear, NonDynamicallyQuantizableLinear)
_CALLED_TYPES = (nn.Sequential, nn.Identity, nn.Dropout, nn.LayerNorm, nn.RMSNorm)
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


@checked
def lower(model: nn.Module, example_inputs: Any = None) -> nn.Module:
    """A copy of a model in which known attention has explicit projections.

    The projections are ``q``, ``k``, ``v`` and ``out``. The function is the same in training and
    evaluation mode, to rounding, and so are the classes of all other modules, dtype, device,
    ``requires_grad``, ``training`` and what is tied. The names of the lowered modules' parameters
    change, and with them the keys of the state dict: load a checkpoint first, then lower.

    A module without a row stays as it is; so does one that has hooks or parts that its class did
    not make, or that shares a parameter with what stays. With example inputs such modules are
    looked at, too, where their own code fixes how many heads there are (``reshape(b, n, self.heads,
    c // self.heads)``, ``reshape(b, n, c)``): they keep their parameters, whose names stay, and
    become instances of a subclass of their class, whose ``forward`` takes these sizes from what it
    reshapes. Which modules that helps, and that they compute the same, is found by running them.

    Args:
        model: the model; it stays as it is.
        example_inputs: a tuple of arguments, a tensor, or a dict of keyword arguments.

    Returns:
        The copy.

    Raises:
        ModelError: ``does-not-run``, if the model does not run on its example inputs;
            ``bad-inputs`` if they are none.

    Example:
        >>> encoder = nn.TransformerEncoderLayer(64, nhead=4)
        >>> lower(encoder).self_attn.q
        Linear(in_features=64, out_features=64, bias=True)
    """
    require_unsharded(model)
    copied = copy.deepcopy(model)
    fused = _modules_to_lower(copied)
    pieces: Pieces = {}
    lowered_by_id: dict[int, nn.Module] = {}
    for module in fused:
        lowering = LOWERINGS[qualified_name(type(module))]
        lowered_by_id[id(module)] = lowering(module, pieces).train(module.training)
    # A list first: the tree changes while it is walked.
    for parent in list(copied.modules()):
        for name, child in parent._modules.items():
            parent._modules[name] = lowered_by_id.get(id(child), child)
    lowered = _use_plain_layers(lowered_by_id.get(id(copied), copied))
    if example_inputs is not None:
        free_sizes(lowered, positional_inputs(lowered, example_inputs))
    return lowered


def _modules_to_lower(model: nn.Module) -> list[nn.Module]:
    """All modules that have a row and can be taken apart."""
    chosen = []
    for module in model.modules():
        if qualified_name(type(module)) in LOWERINGS and _is_intact(module):
            chosen.append(module)
    # A module that stays may share a parameter with another one, which then has to stay, too.
    while True:
        chosen_ids = {id(module) for module in chosen}
        outside = set(map(id, _parameters_outside(model, chosen_ids)))
        separate = [m for m in chosen if outside.isdisjoint(map(id, m.parameters()))]
        if len(separate) == len(chosen):
            return separate
        chosen = separate


def _is_intact(module: nn.Module) -> bool:
    """Whether a module has no hooks, and only parts that its own class made."""
    for part in module.modules():
        for hooks in _HOOKS:
            if getattr(part, hooks):
                return False
    for part in module.children():
        if type(part) not in _WEIGHT_TYPES and not isinstance(part, _CALLED_TYPES):
            return False
    return True


def _parameters_outside(module: nn.Module, chosen_ids: Collection[int]) -> Iterator[nn.Parameter]:
    """The parameters that can be reached without going through one of the chosen modules."""
    if id(module) not in chosen_ids:
        yield from module.parameters(recurse=False)
        for child in module.children():
            yield from _parameters_outside(child, chosen_ids)


def _use_plain_layers(model: nn.Module) -> nn.Module:
    """Turn torch's own transformer layers into plain ones, in place."""
    for module in model.modules():
        if type(module) in PLAIN_LAYERS:
            module.__class__ = PLAIN_LAYERS[type(module)]
        if isinstance(module, nn.TransformerEncoder):
            # Only its fused kernel takes nested tensors; a user's subclass asks for them, too.
            module.use_nested_tensor = False
    return model
