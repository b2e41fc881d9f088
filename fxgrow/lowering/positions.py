"""Relative position biases: what is added to a head's scores for two tokens that lie so and so to each other."""

from torch import Tensor, nn


class Table(nn.Module):
    """One learnt number per head and relative position; ``index`` ``[tokens, tokens]`` says which position."""

    index: Tensor

    def __init__(self, table: nn.Parameter, index: Tensor) -> None:
        super().__init__()
        self.table = table
        self.register_buffer("index", index)

    def forward(self, tokens: int) -> Tensor:
        """``[heads, tokens, tokens]`` for the first ``tokens`` of a window."""
        return self.table[self.index[:tokens, :tokens]].movedim(-1, 0)


class Continuous(nn.Module):
    """``16 sigmoid(MLP(coordinates))`` (Liu et al., "Swin Transformer V2", 2022, section 3.3); the MLP writes heads."""

    index: Tensor
    coordinates: Tensor

    def __init__(self, mlp: nn.Module, coordinates: Tensor, index: Tensor) -> None:
        super().__init__()
        self.mlp = mlp
        self.register_buffer("coordinates", coordinates)
        self.register_buffer("index", index)

    def forward(self, tokens: int) -> Tensor:
        """``[heads, tokens, tokens]`` for the first ``tokens`` of a window."""
        table = self.mlp(self.coordinates).flatten(0, -2)
        bias: Tensor = 16 * table[self.index[:tokens, :tokens]].movedim(-1, 0).sigmoid()
        return bias
