"""What a callback hands on to its ``Grower`` is checked where the callback is made.

A trainer makes the grower when training begins, which may be hours of loading after the call.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from fxgrow.argument_checks import require_fit
from fxgrow.errors import ArgumentError
from fxgrow.training import Grower


def require_grower_options(callback: str, options: Mapping[str, Any]) -> None:
    """Check options of a ``Grower`` that a callback was given beside its own.

    Args:
        callback: the class, for the message.
        options: by name; the model and its optimizer come from the trainer, and are none.

    Raises:
        ArgumentError: ``bad-argument``: there is no such option, or it has a wrong value.

    Example:
        >>> require_grower_options("GrowthCallback", {"grow_steps": 2})
    """
    # A class that is checked has its own signature behind the wrapper.
    make = inspect.unwrap(Grower.__init__)
    known = []
    for parameter in inspect.signature(make).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            known.append(parameter.name)
    for name in options:
        if name not in known:
            raise ArgumentError(
                "bad-argument",
                f"{callback}() has no option {name[:80]!r}, and its grower has none either; give "
                f"some of {', '.join(known)}",
            )
    require_fit(make, options, callback)
    if not options.get("inplace", True):
        raise ArgumentError(
            "bad-argument",
            f"{callback}() cannot use inplace=False, for the trainer would go on with the model "
            "that has not grown; leave it out",
        )
