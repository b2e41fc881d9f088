"""A mixture of experts in the place of a layer that computes token by token.

Reference: Shazeer et al., "Outrageously Large Neural Networks: The Sparsely-Gated
Mixture-of-Experts Layer", ICLR 2017, section 2.1, with the k largest of a softmax, divided by their
sum (Jiang et al., "Mixtral of Experts", 2024, section 2.1).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Count
from fxgrow.errors import GrowthError


class MixtureOfExperts(nn.Module):
    """Experts of which each token goes to the ``top_k`` that its router scores highest.

    Args:
        experts: layers that compute token by token.
        router: scores the experts for a token.
        top_k: how many experts a token is sent to; their weights sum to 1.

    Raises:
        GrowthError: ``bad-experts`` for more than there are, or none.

    Shapes:
        Input and output have their features on the last axis; all others count tokens.

    Example:
        >>> layer = MixtureOfExperts([nn.Linear(4, 4), nn.Linear(4, 4)], nn.Linear(4, 2), top_k=1)
        >>> layer(torch.randn(2, 3, 4)).shape
        torch.Size([2, 3, 4])
    """

    @checked
    def __init__(self, experts: Sequence[nn.Module], router: nn.Module, top_k: Count) -> None:
        super().__init__()
        if not 1 <= top_k <= len(experts):
            raise GrowthError(
                "bad-experts",
                f"top_k={top_k} of {len(experts)} experts cannot be chosen; give 1 to their number",
            )
        self.experts, self.router, self.top_k = nn.ModuleList(experts), router, top_k

    def forward(self, x: Tensor) -> Tensor:
        """Send each token to its experts."""
        tokens = x.reshape(-1, x.shape[-1])
        weights, chosen = self.router(tokens).softmax(-1).topk(self.top_k)
        weights = weights / weights.sum(-1, keepdim=True)
        parts: list[tuple[Tensor, Tensor]] = []
        for number, expert in enumerate(self.experts):
            # Which tokens this expert gets, and at which place of their choice it stands. Taken
            # apart by indices, so that torch.fx can trace it.
            found = torch.where(chosen == number)
            token, place = found[0], found[1]
            part = expert(tokens[token]) * weights[token, place].unsqueeze(-1)
            parts.append((token, part))
        first = parts[0][1]
        outputs = first.new_zeros(tokens.shape[0], first.shape[-1])
        for token, part in parts:
            outputs = outputs.index_add(0, token, part)
        return outputs.reshape(x.shape[:-1] + outputs.shape[-1:])
