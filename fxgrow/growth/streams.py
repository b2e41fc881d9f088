"""Let widths under norms grow whose rules keep what the model computes: each is tried on a copy.

Rules are told from what is done with neurons (``coupling.norm_rules``). Code that computes with the
size of a stream, or takes a norm's result for something else, is only seen by running it, and a
growth step is not to end with that after its search.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from fxgrow.capture import Captured
from fxgrow.copying import copy_module
from fxgrow.coupling import Coupling, CouplingLimits, Width, free_if_possible
from fxgrow.errors import GrowthError, Refusal
from fxgrow.growth.emit import ParameterUpdate, emit
from fxgrow.growth.norm_compensation import random_readers
from fxgrow.growth.preservation import Preservation, excuse
from fxgrow.surgery import Change


def free_streams(
    captured: Captured,
    coupling: Coupling,
    names: Sequence[str],
    examples: Sequence[Any],
    limits: CouplingLimits,
) -> Coupling:
    """Free widths under norms that can get one neuron more without another function.

    Args:
        captured: the model, in evaluation mode.
        coupling: what ``couple`` found.
        names: the widths, refused because of norms there.
        examples: more example inputs.
        limits: with which it was coupled.

    Returns:
        The widths; a refusal of one of ``names`` tells why it stays as it is.
    """
    freed = free_if_possible(captured, coupling, names, examples, limits)
    widths, kept = list(freed.widths), {}
    for number, rules in freed.under_norms.items():
        problem = _problem(captured, freed, number)
        if problem:
            widths[number] = _refused(widths[number], problem)
        else:
            kept[number] = rules
    return replace(freed, widths=tuple(widths), under_norms=kept)


def _problem(captured: Captured, coupling: Coupling, number: int) -> str:
    """How one neuron more changes what the model computes; "" if it does not."""
    model = captured.model
    change = Change((1,) * coupling.widths[number].size, 1)

    def grow(copied: nn.Module) -> None:
        generator = torch.Generator().manual_seed(0)
        readers = random_readers(copied, coupling, number, change.new, generator)
        updates = {name: ParameterUpdate(new=entries) for name, entries in readers.items()}
        emit(copied, coupling, {number: change}, updates)

    before, copied = Preservation.of(model, captured.example_inputs), copy_module(model)
    try:
        grow(copied)
        before.require(copied)
    except GrowthError as error:
        return "" if excuse(before, model, grow) else str(error)
    return ""


def _refused(width: Width, problem: str) -> Width:
    multiples = f"{width.size}, {2 * width.size}, ... neurons more"
    reason = (
        f"norms run over it, and what should make up for them does not: {problem}; splitting every "
        f"neuron alike (fxgrow.widen with how='split', {multiples}) may do"
    )
    return replace(width, refusal=Refusal("normalised", reason))
