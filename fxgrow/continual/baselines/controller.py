"""A controller that draws one option after the other.

Reference: Xu, Zhu, "Reinforced Continual Learning", NeurIPS 2018, Sec. 3.1: an LSTM that is fed its
own last action, and a softmax over the options. How we differ: options that are ruled out have no
probability.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

OptionIndices = tuple[int, ...]
"""How many neurons each width gains, for the widths that are decided."""
AllowedOptions = Callable[[OptionIndices], Sequence[bool]]
"""Given the choices so far: for each option, whether the next width may choose it."""


class Controller(nn.Module):
    """Chooses an option for one width after the other; each choice is fed back in.

    Args:
        options: how many neurons a width may gain.
        hidden: the size of the LSTM's state.
        layers: how many layers the LSTM has.
    """

    def __init__(self, options: Sequence[int], hidden: int, layers: int) -> None:
        super().__init__()
        self.options = tuple(options)
        self.lstm = nn.LSTM(len(self.options), hidden, layers)
        self.scores = nn.Linear(hidden, len(self.options))

    def forward(self, widths: int, allowed: AllowedOptions) -> tuple[OptionIndices, Tensor]:
        """Draw a choice for each of so many widths.

        Args:
            widths: how many choices to draw.
            allowed: which options a width has, given the choices before it; at least one.

        Returns:
            The choices, and the logarithm of their probability (differentiable).
        """
        # The LSTM's input is the last choice as a one-hot row, at first all zeros: none.
        last, state = torch.zeros(1, len(self.options)), None
        choices: OptionIndices = ()
        log_probability = torch.zeros(())
        for _ in range(widths):
            hidden, state = self.lstm(last, state)
            ruled_out = ~torch.tensor(allowed(choices))
            scores = self.scores(hidden[-1]).masked_fill(ruled_out, -torch.inf)
            picked = torch.multinomial(scores.detach().softmax(0), 1)
            log_probability = log_probability + scores.log_softmax(0)[picked].sum()
            last = nn.functional.one_hot(picked, len(self.options)).float()
            choices = (*choices, self.options[int(picked)])
        return choices, log_probability
