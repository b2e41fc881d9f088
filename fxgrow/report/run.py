"""A finished run, in lines."""

from rich.text import Text

from fxgrow.report.numbers import number_text, percent_text, quantity_text, seconds_text
from fxgrow.training import RunResult


def run_lines(result: RunResult) -> tuple[Text, ...]:
    """Accuracy, loss and time: before the first growth step and at the end."""
    accuracy_before = percent_text(result.test_accuracy_before)
    accuracy_after = percent_text(result.test_accuracy_after)
    loss = f"{number_text(result.loss_before, 4)} -> {number_text(result.loss_after, 4)}"
    since = "before the first growth step -> at the end" if result.steps else "no growth step"
    epochs = quantity_text(result.trained_epochs, "epoch")
    steps = quantity_text(len(result.steps), "growth step")
    epoch_time, growth_time = result.epoch_seconds, result.growth_seconds
    return (
        Text(f"test accuracy {accuracy_before} -> {accuracy_after} ({since})", style="bold"),
        Text(f"loss on the training images {loss}"),
        Text(f"{epochs} of {seconds_text(epoch_time)}, {steps} in {seconds_text(growth_time)}"),
    )
