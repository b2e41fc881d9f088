"""The other control: the structure that was grown, trained from a fresh initialisation (Wu et al. 2020, Fig. 3)."""

import copy

from torch import nn

from fxgrow.errors import GrowthError
from fxgrow.growth import reinitialize


def from_scratch(model: nn.Module, seed: int = 0) -> nn.Module:
    """A copy of ``model`` whose weights are drawn anew from ``seed``, by every module's own ``reset_parameters``.

    Raises GrowthError if a parameter has no module that draws it: it would keep what training taught it.
    """
    kept = [
        f"{name}.{own}".lstrip(".")
        for name, module in model.named_modules()
        for own, _ in module.named_parameters(recurse=False)
        if not callable(getattr(module, "reset_parameters", None))
    ]
    if kept:
        raise GrowthError(
            "no-fresh-weights",
            f"{', '.join(kept[:5])} would keep trained values, because no module with reset_parameters() owns them; "
            "build the model anew and widen it instead, or give its class a reset_parameters()",
        )
    new = copy.deepcopy(model)
    reinitialize(new, seed)
    return new
