"""What can become of a damaged file."""

import traceback
from collections.abc import Callable
from typing import NamedTuple

from fxgrow.errors import FxgrowError, SpecError

SOUND = ("loaded", "refused")
FAILURES = ("no path", "other exception", "other fingerprint", "code ran")


class Verdict(NamedTuple):
    """One of ``SOUND`` or ``FAILURES``, a code or message, and the stage that refused."""

    outcome: str
    what: str = ""
    stage: str = ""


LOADED = Verdict("loaded")
OTHER = Verdict("other fingerprint")


def verdict_of(attempt: Callable[[], bool], wanted: type[FxgrowError] = FxgrowError) -> Verdict:
    """Loaded if ``attempt`` gives true, refused if it raises ``wanted``; a SpecError must say where."""
    try:
        return LOADED if attempt() else OTHER
    except wanted as error:
        placeless = isinstance(error, SpecError) and not error.path
        return Verdict("no path" if placeless else "refused", error.code)
    except BaseException as error:  # noqa: BLE001  # to find these is what this is for
        return Verdict("other exception", said(error))


def said(error: BaseException) -> str:
    """An exception that should not have been, and where it was raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"{type(error).__name__}: {error}"[:300]
        + f" ({last.filename.rpartition('site-packages/')[2]}:{last.lineno})"
    )
