"""A finished run, in lines."""

from rich.text import Text

from fxgrow.report.numbers import number, percent, quantity, seconds
from fxgrow.training import Result


def run_lines(result: Result) -> tuple[Text, ...]:
    """Accuracy, loss and time: before the first growth step and at the end."""
    accuracy = f"{percent(result.test_accuracy_before)} -> {percent(result.test_accuracy_after)}"
    loss = f"{number(result.loss_before, 4)} -> {number(result.loss_after, 4)}"
    since = "before the first growth step -> at the end" if result.steps else "no growth step"
    epochs = quantity(result.settings.epochs, "epoch")
    return (
        Text(f"test accuracy {accuracy} ({since})", style="bold"),
        Text(f"loss on the training images {loss}"),
        Text(
            f"{epochs} of {seconds(result.epoch_seconds)}, {quantity(len(result.steps), 'growth step')} in "
            f"{seconds(result.growth_seconds)}"
        ),
    )
