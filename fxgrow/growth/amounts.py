"""How many neurons each width gains, from what a caller asks for by name and pattern."""

from collections.abc import Mapping

from fxgrow.coupling import Coupling
from fxgrow.errors import BudgetError
from fxgrow.growth.scope import matching_widths, require_growable


def requested_amounts(coupling: Coupling, amounts: Mapping[str, int]) -> dict[str, int]:
    """Resolve names and patterns to widths.

    Args:
        coupling: the widths of the model.
        amounts: neurons to add by name or pattern.

    Returns:
        Neurons to add by name of the width: those that patterns match first, then exact names.

    Raises:
        GrowthError: a name or pattern stands for no growable width.
    """
    matched: dict[str, int] = {}
    exact: dict[str, int] = {}
    for name, count in amounts.items():
        if name in coupling.by_name:
            require_growable(coupling.by_name[name], name)
            exact[name] = count
        else:
            for width in matching_widths(coupling, name):
                matched[width.name] = count
    return matched | exact


def require_some(counts: Mapping[str, int], amounts: Mapping[str, int]) -> None:
    """Check that some width gains a neuron.

    Args:
        counts: neurons to add by name of the width.
        amounts: as the caller asked for them.

    Raises:
        BudgetError: ``empty-budget``.
    """
    if not any(counts.values()):
        raise _nothing_asked(amounts)


def _nothing_asked(amounts: Mapping[str, int]) -> BudgetError:
    return BudgetError(
        "empty-budget", f"{dict(amounts)} adds no neuron; ask for at least one in some width"
    )


def round_amounts(
    coupling: Coupling, amounts: Mapping[str, int], multiple: int | None
) -> dict[str, int]:
    """Raise the amounts so that each width ends at a multiple.

    Args:
        coupling: the widths of the model.
        amounts: neurons to add by name of the width.
        multiple: None leaves the amounts as they are.

    Returns:
        The raised amounts.

    Raises:
        BudgetError: ``bad-budget`` for a multiple below 1.
    """
    if multiple is None:
        return dict(amounts)
    if multiple < 1:
        raise BudgetError(
            "bad-budget", f"sizes cannot be rounded to multiples of {multiple}; say at least 1"
        )
    rounded = {}
    for name, count in amounts.items():
        missing = -(coupling.by_name[name].size + count) % multiple
        rounded[name] = count + missing
    return rounded
