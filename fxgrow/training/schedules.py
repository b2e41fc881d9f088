"""Schedules of the learning rate: each is a rule for the whole run, which growth does not disturb.

References:
- ``cosine``: Loshchilov, Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017,
  Eq. 5, without restarts.
- ``step``: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016,
  Sec. 4.2: a tenth of the rate after half and after three quarters of the training.
- Warm-up: Goyal et al., "Accurate, Large Minibatch SGD", 2017, Sec. 2.2: linear, step by step.

How we differ: where a schedule is follows from the share of the run that is done alone. So it has
no state, a run that is resumed is where it was, and a growth step moves nothing.
"""

from abc import abstractmethod
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Count, Finite
from fxgrow.documents import Settings, limits
from fxgrow.errors import TrainingError
from fxgrow.training.sgd import cosine_rate


class _Schedule(Settings):
    """A learning rate that rises to that of the run, and then follows a rule."""

    warmup: float = Field(default=0.0, ge=0, le=limits.EPOCHS, allow_inf_nan=False)
    warmup_steps: int = Field(default=0, ge=0, le=limits.TRAINING_STEPS)

    @model_validator(mode="after")
    def _one_warmup(self) -> "_Schedule":
        if self.warmup and self.warmup_steps:
            raise ValueError("a warm-up lasts so many epochs or so many steps; give one of them")
        return self

    @checked
    def rate(
        self, lr: Finite, final_lr: Finite, progress: Finite, epochs: Count, steps: Count
    ) -> float:
        """The learning rate of the next step.

        In a warm-up of w steps, step t (from 1) has the rate lr * t / w.

        Args:
            lr: the largest rate.
            final_lr: that at the end, if the schedule goes there.
            progress: the share of the run that is done, from 0 to 1.
            epochs: of the whole run.
            steps: of the whole run.

        Returns:
            The rate.
        """
        # One of the two is 0.
        share = self.warmup / epochs + self.warmup_steps / steps
        if share and (progress < share or share >= 1):
            # Step t = progress * steps + 1 of w = share * steps: lr * t / w.
            return lr * min(1.0, (progress + 1 / steps) / share)
        # Without a warm-up this is ``progress``, to the bit.
        return self._rate_after_warmup(lr, final_lr, (progress - share) / (1 - share))

    @abstractmethod
    def _rate_after_warmup(self, lr: float, final_lr: float, progress: float) -> float:
        """The rate at a share of what comes after the warm-up."""


class ConstantRate(_Schedule):
    """The same rate all the time.

    Args:
        name: tells the schedules apart in a recipe.
        warmup: epochs in which the rate rises linearly; they need not be whole.
        warmup_steps: the same in steps of the optimizer.

    Raises:
        ArgumentError: ``bad-setting``: a value is out of range, or both warm-ups are given.

    Example:
        >>> ConstantRate(warmup_steps=4).rate(0.1, 0.0, progress=0.0, epochs=1, steps=10)
        0.025
    """

    name: Literal["constant"] = "constant"

    def _rate_after_warmup(self, lr: float, final_lr: float, progress: float) -> float:
        return lr


class CosineRate(_Schedule):
    """Half a cosine from ``lr`` to ``final_lr`` of the run: the default.

    Args:
        name: tells the schedules apart in a recipe.
        warmup: epochs in which the rate rises linearly; they need not be whole.
        warmup_steps: the same in steps of the optimizer.

    Raises:
        ArgumentError: ``bad-setting``: a value is out of range, or both warm-ups are given.

    Example:
        >>> CosineRate().rate(0.1, 0.0, progress=0.5, epochs=1, steps=10)
        0.05
    """

    name: Literal["cosine"] = "cosine"

    def _rate_after_warmup(self, lr: float, final_lr: float, progress: float) -> float:
        return cosine_rate(lr, final_lr, progress)


class StepRate(_Schedule):
    """A rate that is multiplied by ``gamma`` at every milestone.

    Args:
        name: tells the schedules apart in a recipe.
        milestones: shares of what comes after the warm-up.
        gamma: the factor.
        warmup: epochs in which the rate rises linearly; they need not be whole.
        warmup_steps: the same in steps of the optimizer.

    Raises:
        ArgumentError: ``bad-setting``: a value is out of range, or both warm-ups are given.

    Example:
        >>> StepRate(gamma=0.5).rate(0.2, 0.0, progress=0.6, epochs=1, steps=10)
        0.1
    """

    name: Literal["step"] = "step"
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.5, 0.75), min_length=1, max_length=limits.GROWTH_STEPS
    )
    gamma: float = Field(default=0.1, gt=0, le=1)

    def _rate_after_warmup(self, lr: float, final_lr: float, progress: float) -> float:
        # lr * gamma^k after k milestones.
        passed = sum(progress >= milestone for milestone in self.milestones)
        return float(lr * self.gamma**passed)


def require_short_warmup(warmup: float, whole: int, unit: str) -> None:
    """Check that a warm-up is shorter than the run.

    Args:
        warmup: how long it is.
        whole: how long the run is.
        unit: of both, in the plural.

    Raises:
        TrainingError: ``bad-setting``: it is not.
    """
    if warmup >= whole:
        raise TrainingError(
            "bad-setting",
            f"a warm-up of {warmup:g} {unit} leaves nothing of a run of {whole}; ask for a shorter "
            "one",
        )


SCHEDULES: dict[str, type[Settings]] = {
    "constant": ConstantRate,
    "cosine": CosineRate,
    "step": StepRate,
}
"""All schedules by name."""

Schedule = Annotated[ConstantRate | CosineRate | StepRate, Field(discriminator="name")]
"""Any schedule; in a recipe its ``name`` says which."""
