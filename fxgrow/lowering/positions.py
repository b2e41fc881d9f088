"""Relative position biases: added to a head's scores, by how two tokens lie to each other."""

from torch import Tensor, nn


class Table(nn.Module):
    """One learned number per head and relative position.

    Args:
        table: ``[positions, heads]``.
        index: ``[tokens, tokens]``, which position two tokens have to each other.
    """

    index: Tensor

    def __init__(self, table: nn.Parameter, index: Tensor) -> None:
        super().__init__()
        self.table = table
        self.register_buffer("index", index)

    def forward(self, tokens: int) -> Tensor:
        """``[heads, tokens, tokens]`` for the first ``tokens`` of a window."""
        return self.table[self.index[:tokens, :tokens]].movedim(-1, 0)


class Continuous(nn.Module):
    """``16 sigmoid(MLP(coordinates))``, where the MLP writes heads.

    Reference: Liu et al., "Swin Transformer V2", 2022, section 3.3.

    Args:
        mlp: from two coordinates to heads.
        coordinates: ``[1, height, width, 2]``, of all relative positions.
        index: ``[tokens, tokens]``, which position two tokens have to each other.
    """

    index: Tensor
    coordinates: Tensor

    def __init__(self, mlp: nn.Module, coordinates: Tensor, index: Tensor) -> None:
        super().__init__()
        self.mlp = mlp
        self.register_buffer("coordinates", coordinates)
        self.register_buffer("index", index)

    def forward(self, tokens: int) -> Tensor:
        """``[heads, tokens, tokens]`` for the first ``tokens`` of a window."""
        table = self.mlp(self.coordinates).flatten(0, -2)  # [positions, heads]
        bias: Tensor = 16 * table[self.index[:tokens, :tokens]].movedim(-1, 0).sigmoid()
        return bias
