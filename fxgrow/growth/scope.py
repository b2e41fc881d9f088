"""Which widths of a model may grow, and which grow alike."""

from pydantic import BaseModel, ConfigDict


class Scope(BaseModel):
    """Patterns as in ``fnmatch``.

    ``only``, ``ignore``: of module paths; widths that are not written by the former (none given: all), or touch the
    latter, stay as they are. ``tie``: groups of widths, by names or patterns; those of one group grow alike, candidates
    at the same place being one candidate (``growth.ties``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    tie: tuple[tuple[str, ...], ...] = ()


ALL_WIDTHS = Scope()
"""All widths, each by itself."""
