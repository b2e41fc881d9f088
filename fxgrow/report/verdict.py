"""What a growth step was worth, in one sentence: against training for the same time."""

from rich.text import Text

from fxgrow.report.numbers import number_text, quantity_text, seconds_text
from fxgrow.report.style import BAD, GOOD
from fxgrow.training import StepResult

_KEPT = 1e-5
"""Losses on the growth batches that differ by less than this share are equal but for rounding."""


def step_verdict(step: StepResult) -> tuple[Text, ...]:
    """The test loss before and after growth, and after training for the same time.

    Args:
        step: one growth step in numbers.

    Returns:
        One line; none for results of earlier versions, which do not know these losses.
    """
    before, after, trained = step.test_loss_before, step.test_loss_after, step.test_loss_trained
    if before is None or after is None:
        return ()
    is_kept = abs(step.loss_after - step.loss_before) <= _KEPT * abs(step.loss_before)
    growth = "keeps the test loss at" if is_kept else f"takes the test loss from {_loss(before)} to"
    steps = quantity_text(step.trained_steps, "training step")
    instead = f"would take it to {_loss(trained)}" if trained is not None else "would diverge"
    sentence = f"verdict: growth {growth} {_loss(after)} in {seconds_text(step.seconds)}; "
    line = Text(f"{sentence}{steps} in the same time {instead}")
    if is_kept:
        # By design: nothing is gained yet, and nothing is lost.
        return (line.append("; the training that follows has to make use of the new neurons"),)
    line.stylize(GOOD if trained is None or after <= trained else BAD)
    return (line,)


def _loss(value: float) -> str:
    return number_text(value, 4)
