"""A larger network starts with the function of a smaller one that is trained, instead of anew.

    python examples/grow_to.py

Both predict the next byte of the source of Python's argparse from the eight before it. The larger
one starts twice: from the small one, and from random weights. Training the small one came before.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

import fxgrow

text = torch.tensor(list(Path(argparse.__file__).read_bytes()))
pieces = text.unfold(0, 9, 1)  # eight bytes and the next one
held_out = pieces[-10_000:]


class Residual(nn.Module):
    """A residual block of two layers."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.up, self.down = nn.Linear(size, hidden), nn.Linear(hidden, size)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(self.norm(x)).relu())


def network(size: int, hidden: int, blocks: int) -> nn.Module:
    """Embeddings of eight bytes, a residual stream of some size, and the logits of the next one."""
    stream = nn.Sequential(*(Residual(size, hidden) for _ in range(blocks)))
    first = nn.Sequential(nn.Embedding(256, 16), nn.Flatten(), nn.Linear(128, size))
    return nn.Sequential(first, stream, nn.Linear(size, 256))


def train(model: nn.Module, steps: int) -> str:
    """Train with an optimizer of its own; the loss on the end of the text."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        batch = pieces[torch.randint(len(pieces) - 10_000, (128,))]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch[:, :8]), batch[:, 8]).backward()
        optimizer.step()
    with torch.no_grad():
        return f"loss {nn.functional.cross_entropy(model(held_out[:, :8]), held_out[:, 8]):.2f}"


if __name__ == "__main__":
    torch.manual_seed(0)
    small, big = network(32, 32, 1), network(96, 192, 3)
    print(f"small network, 1500 steps: {train(small, 1500)}")
    grown = fxgrow.grow_to(small, like=big, example_inputs=held_out[:2, :8]).module
    print(f"grown to the larger one: {train(grown, 0)}; 300 steps later: {train(grown, 300)}")
    print(f"the larger one from random weights, 300 steps: {train(big, 300)}")
