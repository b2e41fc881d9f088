"""A small GPT that gets wider and deeper while it trains, and keeps its function when it does.

    python examples/gpt.py

It learns the source of Python's argparse. One that keeps its size trains for as many steps.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

import fxgrow

TIME, SIZE, HEADS = 48, 32, 2
text = torch.tensor(list(Path(argparse.__file__).read_bytes()))


class Block(nn.Module):
    """Causal attention, then an MLP of 8 neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.qkv = nn.LayerNorm(SIZE), nn.Linear(SIZE, 3 * SIZE)
        self.out, self.norm2 = nn.Linear(SIZE, SIZE), nn.LayerNorm(SIZE)
        self.up, self.down = nn.Linear(SIZE, 8), nn.Linear(8, SIZE)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, -1, SIZE // HEADS)).transpose(1, 3)
        mixed = nn.functional.scaled_dot_product_attention(*qkv.unbind(2), is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    """Train for 200 steps; the mean loss of the last hundred."""
    losses = []
    for _ in range(200):
        pieces = text[torch.randint(len(text) - TIME, (16, 1)) + torch.arange(TIME + 1)]
        optimizer.zero_grad()
        losses.append(nn.functional.cross_entropy(model(pieces[:, :-1]).mT, pieces[:, 1:]))
        losses[-1].backward()
        optimizer.step()
    return float(torch.stack(losses[-100:]).detach().mean())


if __name__ == "__main__":
    for name in ("not grown", "grown"):
        torch.manual_seed(0)
        gpt = nn.Sequential(nn.Embedding(256, SIZE), nn.Sequential(Block()), nn.Linear(SIZE, 256))
        optimizer = torch.optim.AdamW(gpt.parameters(), lr=4e-3)
        first = train(gpt, optimizer)
        if name == "grown":
            x = text[None, :TIME]
            before = gpt(x)
            fxgrow.widen(gpt, {"1.0.up": 56}, x, "new", optimizer=optimizer, inplace=True)
            fxgrow.deepen(gpt, {"1": 2}, x, optimizer=optimizer, inplace=True)
            print(f"outputs moved by {(gpt(x) - before).abs().max():.0e} in growth to 3 blocks")
        print(f"{name}: loss {first:.2f} -> {train(gpt, optimizer):.2f}")
