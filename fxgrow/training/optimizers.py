"""The optimizers that a run trains with, as settings; a recipe names one of them.

References:
- ``sgd``: SGD with momentum and an L2 penalty, ``torch.optim.SGD``.
- ``adamw``: Loshchilov, Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, Algorithm 2,
  ``torch.optim.AdamW``.

How we differ: in nothing. What both have (``lr``, ``weight_decay``) and the momentum of SGD are
settings of the run, where they were before there was a choice.
"""

from typing import Annotated, Literal

from pydantic import Field

from fxgrow.documents import Settings

_Beta = Annotated[float, Field(ge=0, lt=1)]


class SGDSettings(Settings):
    """SGD with the ``lr``, ``momentum`` and ``weight_decay`` of the run: the default.

    Args:
        name: tells the optimizers apart in a recipe.

    Example:
        >>> fxgrow.training.RunSettings(optimizer=SGDSettings(), momentum=0.8)
    """

    name: Literal["sgd"] = "sgd"


class AdamWSettings(Settings):
    """AdamW with the ``lr`` of the run, and its ``weight_decay``, which is decoupled here.

    Args:
        name: tells the optimizers apart in a recipe.
        betas: of the means of the gradient and of its square, how much of the old one is kept.
        eps: added to the root of the second mean.

    Raises:
        ArgumentError: ``bad-setting``: a value is out of range.

    Example:
        >>> fxgrow.training.RunSettings(optimizer=AdamWSettings(), lr=1e-3, weight_decay=0.01)
    """

    name: Literal["adamw"] = "adamw"
    betas: tuple[_Beta, _Beta] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0, le=1)


RUN_OPTIMIZERS: dict[str, type[Settings]] = {"sgd": SGDSettings, "adamw": AdamWSettings}
"""All optimizers by name."""

OptimizerSettings = Annotated[SGDSettings | AdamWSettings, Field(discriminator="name")]
"""Any optimizer; in a recipe its ``name`` says which."""
