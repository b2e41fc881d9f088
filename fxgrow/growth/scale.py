"""Scale all widths of a model by a factor: the ``width=0.125`` of a model reference, by surgery.

Nothing of the function is kept: neurons are dropped or repeated and the weights drawn anew.
"""

import copy
from typing import Any

from torch import nn

from fxgrow.coupling import Width, change_maps, couple, set_attributes
from fxgrow.errors import GrowthError
from fxgrow.randomness import seeded
from fxgrow.surgery import Change, resize


def scale_widths(
    model: nn.Module, example_inputs: tuple[Any, ...], factor: float, seed: int = 0
) -> nn.Module:
    """A freshly initialised copy of ``model`` with every growable width of size s at round(s * factor), at least 1.

    Modules that have ``reset_parameters`` draw their weights anew, from ``seed``; other parameters keep the values of
    the neurons that stay. Widths that cannot grow keep their size. Raises ``GrowthError`` if no width can change.
    """
    coupling = couple(model, example_inputs)
    changes = {
        n: _scaled(width, factor) for n, width in enumerate(coupling.widths) if width.growable
    }
    if not changes:
        raise GrowthError(
            "nothing-growable",
            f"no width of {type(model).__name__} can be scaled by {factor:g}; leave width= out",
        )
    module = copy.deepcopy(model)
    resize(module, change_maps(coupling, changes))
    set_attributes(module, coupling, changes)
    reinitialize(module, seed)
    return module


def _scaled(width: Width, factor: float) -> Change:
    """Every neuron equally often, the first ones once more: below a factor of 1 the first ones stay."""
    every, more = divmod(max(1, round(width.size * factor)), width.size)
    return Change(tuple(every + (neuron < more) for neuron in range(width.size)))


def reinitialize(module: nn.Module, seed: int) -> None:
    """Let every submodule that can draw its own parameters do so; torch's default generator stays as it is."""
    with seeded(seed):
        for part in module.modules():
            reset = getattr(part, "reset_parameters", None)
            if callable(reset):
                reset()
