"""What the config of a Hugging Face style model can say: which widths it describes, and together.

A config has one number for all layers (``intermediate_size``), so a model that grew unevenly cannot
be loaded by ``from_pretrained``. Widths whose names differ by numbers only, and which are as wide,
are grown together by one neuron on a copy: where the config can follow, they may grow, alike.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import nn

from fxgrow.capture import Captured
from fxgrow.copying import copy_module
from fxgrow.coupling import Coupling, Width
from fxgrow.errors import GrowthError, Refusal
from fxgrow.growth.emit import emit
from fxgrow.growth.method import Method
from fxgrow.surgery import (
    Change,
    ConfigUpdate,
    config_paths,
    parameter_shapes,
    update_config,
)


def limit_to_config(
    captured: Captured, coupling: Coupling, method: Method
) -> tuple[Coupling, tuple[tuple[str, ...], ...]]:
    """Let grow only what the config of a model can describe.

    Args:
        captured: a model with a config.
        coupling: its widths.
        method: what grows it.

    Returns:
        The coupling, in which all other widths refuse (``not-expressible``), and the groups of
        widths that have to grow alike, by names.

    Raises:
        GrowthError: ``not-expressible`` if the model has no config, or one that says nothing of any
            width, or if the method inserts layers.

    Example:
        >>> coupling, ties = limit_to_config(captured, coupling, method)
    """
    model = captured.model
    if not config_paths(model):
        raise GrowthError(
            "not-expressible",
            f"{type(model).__name__} has no config, so none can say what may grow; leave out "
            "expressible=True",
        )
    if method.propose(coupling).layers is not None:
        raise GrowthError(
            "not-expressible",
            f"{type(method).__name__} inserts layers of which the config of "
            f"{type(model).__name__} cannot tell; grow widths alone, or deepen by fxgrow.deepen",
        )
    groups = []
    for group in _alike(coupling):
        if _follows(captured, coupling, group):
            groups.append(group)
    if not groups:
        raise GrowthError(
            "not-expressible",
            f"the config of {type(model).__name__} can describe one neuron more of no width that "
            "can grow; leave out expressible=True and save by fxgrow.save",
        )
    # Those that no group names stay in the coupling, each with the reason why it stays as it is.
    named = {name for group in groups for name in group}
    widths = tuple(width if width.name in named else _refused(width) for width in coupling.widths)
    ties = tuple(group for group in groups if len(group) > 1)
    return replace(coupling, widths=widths), ties


def require_expressed(update: ConfigUpdate | None) -> None:
    """Check that the config followed what was emitted.

    Args:
        update: what became of the config.

    Raises:
        GrowthError: ``not-expressible``.
    """
    note = "nothing that it describes has grown" if update is None else update.note
    if note:
        raise GrowthError(
            "not-expressible",
            f"the config cannot describe what grew together ({note}); nothing was changed; name "
            "fewer widths (only=), or leave out expressible=True",
        )


def _alike(coupling: Coupling) -> list[tuple[str, ...]]:
    """The growable widths in groups: those at the same place of every layer, and as wide."""
    groups: Mapping[tuple[str, int], list[str]] = defaultdict(list)
    for width in coupling.widths:
        if width.growable:
            # model.layers.0.mlp and model.layers.1.mlp are one place.
            place = re.sub(r"\d+", "*", width.name)
            groups[place, width.size].append(width.name)
    return [tuple(names) for names in groups.values()]


def _follows(captured: Captured, coupling: Coupling, group: Sequence[str]) -> bool:
    """Whether a config describes the model with one more neuron in each width of a group.

    A stream may be a multiple of the number of heads only: of that twice as many tell, too.
    """
    if _follows_growth(captured, coupling, group, times=0):
        return True
    numbers = {coupling.number_of[name] for name in group}
    is_stream = numbers <= coupling.under_norms.keys()
    return is_stream and _follows_growth(captured, coupling, group, times=1)


def _follows_growth(
    captured: Captured, coupling: Coupling, group: Sequence[str], times: int
) -> bool:
    """Whether it does with so many times the width more, or with one neuron more (0 times)."""
    changes = {}
    for name in group:
        size = coupling.by_name[name].size
        changes[coupling.number_of[name]] = Change((1,) * size, times * size or 1)
    # On a copy, as the config is found by what the grown model computes.
    copied: nn.Module = copy_module(captured.model)
    shapes_before = parameter_shapes(copied)
    try:
        emit(copied, coupling, changes, {})
    except GrowthError:  # one more alone cannot be: the width is no number that a field could hold
        return False
    sizes = [(len(change.times), change.size) for change in changes.values()]
    update = update_config(copied, shapes_before, sizes, captured.example_inputs)
    return update is not None and not update.note


def _refused(width: Width) -> Width:
    if width.refusal:
        return width
    reason = "the model's config cannot describe one neuron more of it, and that was asked for"
    return replace(width, refusal=Refusal("not-expressible", reason))
