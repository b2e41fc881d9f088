"""Networks of cells, in lines."""

from rich.text import Text


def network_lines(parameters: int, helper_parameters: int, multiply_adds: int) -> tuple[Text, ...]:
    """The size of a network of cells, to the last digit.

    Args:
        parameters: of the network as it is used after training.
        helper_parameters: of the second classifier, which exists in training alone.
        multiply_adds: for one image.

    Returns:
        A line for the parameters and one for the multiply-adds.
    """
    helper = ""
    if helper_parameters:
        helper = f", and {helper_parameters:,} of the second classifier, in training alone"
    return (
        Text(f"parameters     {parameters:,}{helper}"),
        Text(f"multiply-adds  {multiply_adds:,} per image"),
    )
