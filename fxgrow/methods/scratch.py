"""A control: the grown structure, trained from new random weights.

Reference: Wu, Liu, Stone, Liu, "Firefly Neural Architecture Descent", NeurIPS 2020, Fig. 3
("scratch"). How we differ: the weights are drawn by the modules' own ``reset_parameters``.
"""

import copy

from torch import nn

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Seed
from fxgrow.errors import GrowthError
from fxgrow.growth import reinitialize

_MAX_NAMES = 5  # that an error lists


@checked
def from_scratch(model: nn.Module, seed: Seed = 0) -> nn.Module:
    """Return a copy of a model with new random weights.

    Args:
        model: any model, usually a grown one; it stays as it is.
        seed: of the new weights; torch's own generators are left alone.

    Raises:
        GrowthError: ``no-fresh-weights`` if a parameter belongs to a module that has no
            ``reset_parameters``, for it would keep its trained value.

    Example:
        >>> growth = fxgrow.grow(model, batches, loss_fn, example_inputs=inputs)
        >>> baseline = from_scratch(growth.module, seed=1)
    """
    trained = _parameters_without_reset(model)
    if trained:
        raise GrowthError(
            "no-fresh-weights",
            f"{', '.join(trained[:_MAX_NAMES])} would keep trained values, because no module with "
            "reset_parameters() owns them; build the model anew and widen it instead, "
            "or give its class a reset_parameters()",
        )
    new = copy.deepcopy(model)
    reinitialize(new, seed)
    return new


def _parameters_without_reset(model: nn.Module) -> list[str]:
    """List the parameters whose own module has no ``reset_parameters``."""
    names = []
    for path, module in model.named_modules():
        if callable(getattr(module, "reset_parameters", None)):
            continue
        for name, _ in module.named_parameters(recurse=False):
            names.append(f"{path}.{name}".lstrip("."))
    return names
