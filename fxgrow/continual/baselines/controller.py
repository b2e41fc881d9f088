"""A controller that draws one option after the other.

Reference: Xu, Zhu, "Reinforced Continual Learning", NeurIPS 2018, Sec. 3.1: an LSTM that is fed its own last action,
and a softmax over the options. How we differ: options that are ruled out have no probability.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

OptionIndices = tuple[int, ...]
"""How many neurons each width gains, as far as that is decided."""
AllowedOptions = Callable[[OptionIndices], Sequence[bool]]
"""Which options there are for the width that comes next."""


class Controller(nn.Module):
    """From the option chosen for the width before, which is none at first, to how likely each is for the next one."""

    def __init__(self, options: Sequence[int], hidden: int, layers: int) -> None:
        super().__init__()
        self.options = tuple(options)
        self.lstm = nn.LSTM(len(self.options), hidden, layers)
        self.scores = nn.Linear(hidden, len(self.options))

    def forward(self, widths: int, allowed: AllowedOptions) -> tuple[OptionIndices, Tensor]:
        """Choices for so many widths, drawn among what is ``allowed``, and the log of their probability."""
        before, state = torch.zeros(1, len(self.options)), None
        choices: OptionIndices = ()
        total = torch.zeros(())
        for _ in range(widths):
            hidden, state = self.lstm(before, state)
            scores = self.scores(hidden[-1]).masked_fill(
                ~torch.tensor(allowed(choices)), -torch.inf
            )
            picked = torch.multinomial(scores.detach().softmax(0), 1)
            total = total + scores.log_softmax(0)[picked].sum()
            before = nn.functional.one_hot(picked, len(self.options)).float()
            choices = (*choices, self.options[int(picked)])
        return choices, total
