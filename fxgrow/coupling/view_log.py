"""The views of a run, to notice that one of a grown model puts neurons where positions were.

``x.view(batch, -1, self.heads, self.size)`` fits many numbers of heads: with twice as many and the
same ``self.heads`` a sequence becomes twice as long. Torch does not mind, so a trial has to.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

ViewShape = tuple[int, ...]

VIEWS = frozenset({"aten::view", "aten::_unsafe_view", "aten::_reshape_alias"})
"""The operators that are looked at."""


class RegroupedError(RuntimeError):
    """A view runs across a border of dimensions that it kept to before the model grew."""


@dataclass
class ViewLog:
    """The views of one run.

    Args:
        expected: the shapes before and after each view of the run of the model that has not grown;
            None: not known.
        seen: those of this run.
    """

    expected: Sequence[tuple[ViewShape, ViewShape]] | None = None
    seen: list[tuple[ViewShape, ViewShape]] = field(default_factory=list)

    def record(self, old: Sequence[int], new: Sequence[int]) -> None:
        """Add a view.

        Args:
            old: the shape before.
            new: the shape after.

        Raises:
            RegroupedError: it takes entries across a border that it kept to before the growth.
        """
        number = len(self.seen)
        self.seen.append((tuple(old), tuple(new)))
        if self.expected is None or number >= len(self.expected):
            return
        before = self.expected[number]
        if (len(before[0]), len(before[1])) != (len(old), len(new)):
            self.expected = None  # the model takes another way, so its views are others
        elif self.seen[-1] != before and not _keeps_borders(before, self.seen[-1]):
            raise RegroupedError(f"a view of {list(old)} as {list(new)} moves entries elsewhere")


def _keeps_borders(before: tuple[ViewShape, ViewShape], after: tuple[ViewShape, ViewShape]) -> bool:
    """Whether each border of dimensions that a view kept to is one that it still keeps to."""
    old, new = before
    for i in range(1, len(old)):
        for j in range(1, len(new)):
            # Behind a dimension of size 1 there is the border before it once more.
            is_border = math.prod(old[:i]) == math.prod(new[:j]) and old[i - 1] > 1 < new[j - 1]
            if is_border and math.prod(after[0][:i]) != math.prod(after[1][:j]):
                return False
    return True
