"""Scale all widths of a model by a factor: the ``width=0.125`` of a model reference, by surgery.

Nothing of the function is kept: neurons are dropped or repeated and the weights drawn anew.
"""

from typing import Any

from torch import nn

from fxgrow.copying import copy_module
from fxgrow.coupling import Width, change_maps, couple, set_attributes
from fxgrow.errors import GrowthError
from fxgrow.randomness import seeded
from fxgrow.surgery import Change, resize


def scale_widths(
    model: nn.Module, example_inputs: tuple[Any, ...], factor: float, seed: int = 0
) -> nn.Module:
    """Scale every growable width of a model and initialize it anew.

    Args:
        model: stays as it is.
        example_inputs: positional arguments of the model.
        factor: a width of size s gets round(s * factor) neurons, at least 1.
        seed: of the new weights. Modules that have ``reset_parameters`` draw theirs; other
            parameters keep the values of the neurons that stay.

    Returns:
        A scaled copy. Widths that cannot grow keep their size.

    Raises:
        GrowthError: ``nothing-growable``, if no width can change.
    """
    coupling = couple(model, example_inputs)
    changes: dict[int, Change] = {}
    for number, width in enumerate(coupling.widths):
        if width.growable:
            changes[number] = _scaled(width, factor)
    if not changes:
        raise GrowthError(
            "nothing-growable",
            f"no width of {type(model).__name__} can be scaled by {factor:g}; leave width= out",
        )
    module = copy_module(model)
    resize(module, change_maps(coupling, changes))
    set_attributes(module, coupling, changes)
    reinitialize(module, seed)
    return module


def _scaled(width: Width, factor: float) -> Change:
    """Repeat every neuron equally often, the first ones once more.

    Below a factor of 1 that means that the first ones stay.
    """
    every, more = divmod(max(1, round(width.size * factor)), width.size)
    times = []
    for neuron in range(width.size):
        times.append(every + (neuron < more))
    return Change(tuple(times))


def reinitialize(module: nn.Module, seed: int) -> None:
    """Call ``reset_parameters`` of every submodule that has it.

    Args:
        module: is changed in place.
        seed: of the drawn weights. Torch's default generator stays as it is.
    """
    with seeded(seed):
        for part in module.modules():
            reset = getattr(part, "reset_parameters", None)
            if callable(reset):
                reset()
