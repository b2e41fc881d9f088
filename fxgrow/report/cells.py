"""Networks of cells, in lines."""

from rich.text import Text


def network_lines(parameters: int, helper_parameters: int, multiply_adds: int) -> tuple[Text, ...]:
    """The size of a network of cells, to the last digit; ``helper_parameters``: of a classifier that trains with it."""
    helper = (
        f", and {helper_parameters:,} of the second classifier, in training alone"
        if helper_parameters
        else ""
    )
    return (
        Text(f"parameters     {parameters:,}{helper}"),
        Text(f"multiply-adds  {multiply_adds:,} per image"),
    )
