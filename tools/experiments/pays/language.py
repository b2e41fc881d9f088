"""``pays-lm``: a byte-level language model on the source of Python's standard library.

The sizes are those of ALGORITHM, section 10: two blocks of 64 features, MLPs of 8 neurons that grow
to 96 at 30 % of the FLOPs, AdamW. New neurons have outgoing weights of 0; the arms are the rules
by which the optimizer goes on. In ``lm-heads`` the heads grow from 2 to 6 instead.

In ``lm-deep`` one block with an MLP of 16 neurons grows to four blocks of 96 at 30 % of the FLOPs, by
new blocks that start as the identity, by copies that do, and by copies that do not (G_stack, Du et al.
2024). Two more arms do the first with a share of the FLOPs, which says what share growth saves.
"""

import math
import sysconfig
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fxgrow.surgery import STATE_RULES
from tools.experiments.pays.task import Batch, Problem, Shortened, Task, mean_loss

CONTEXT = 64
BATCH = 16
HEAD_SIZE = 16
REFERENCE = "reset-grown"
ARMS = (REFERENCE, *(state for state in STATE_RULES if state != REFERENCE))


class Block(nn.Module):
    """A transformer block with causal attention."""

    def __init__(self, size: int, heads: int, width: int) -> None:
        super().__init__()
        inner = heads * HEAD_SIZE
        self.before_attention, self.before_mlp = nn.LayerNorm(size), nn.LayerNorm(size)
        self.qkv, self.out = nn.Linear(size, 3 * inner), nn.Linear(inner, size)
        self.up, self.down = nn.Linear(size, width), nn.Linear(width, size)

    def forward(self, x: Tensor) -> Tensor:
        projected = self.qkv(self.before_attention(x))
        q, k, v = projected.unflatten(-1, (3, -1, HEAD_SIZE)).unbind(-3)
        q, k, v = (one.transpose(1, 2) for one in (q, k, v))  # [batch, heads, time, size of a head]
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.before_mlp(x))))


class ByteModel(nn.Module):
    """From bytes to the logits of the next ones."""

    def __init__(self, width: int, heads: int = 4, depth: int = 2, size: int = 64) -> None:
        super().__init__()
        self.bytes = nn.Embedding(256, size)
        self.places = nn.Parameter(0.02 * torch.randn(CONTEXT, size))
        self.blocks = nn.Sequential(*(Block(size, heads, width) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(size), nn.Linear(size, 256)

    def reset_parameters(self) -> None:
        """Draw the places anew, for training from scratch."""
        nn.init.normal_(self.places, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.blocks(self.bytes(x) + self.places)))
        return logits


@lru_cache
def text() -> Tensor:
    """The source of the standard library, file after file, as bytes."""
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    return torch.tensor(list(b"".join(path.read_bytes() for path in sources)), dtype=torch.long)


def next_byte_loss(logits: Tensor, target: Tensor) -> Tensor:
    """The mean loss per byte in nats."""
    return F.cross_entropy(logits.flatten(0, 1), target.flatten())


def problem(seed: int) -> Problem:
    """The error is the perplexity per byte, so that its logarithm is the loss in nats."""
    everything, along = text(), torch.arange(CONTEXT + 1)
    split = int(0.9 * len(everything))  # the last files are held out
    generator = torch.Generator().manual_seed(seed)

    def batches() -> Iterator[Batch]:
        while True:
            starts = torch.randint(split - CONTEXT - 1, (BATCH, 1), generator=generator)
            found = everything[starts + along]
            yield found[:, :-1], found[:, 1:]

    held_out = everything[torch.arange(split, len(everything) - CONTEXT - 1, 1999)[:, None] + along]

    def perplexity(model: nn.Module) -> float:
        inputs, targets = held_out[:, :-1], held_out[:, 1:]
        return math.exp(mean_loss(model, next_byte_loss, inputs, targets, size=100))

    return Problem(batches(), next_byte_loss, perplexity)


TASK = Task(
    "lm",
    ByteModel,
    problem,
    widths=(8, 96),
    steps=1500,
    rates=(0.002, 0.004, 0.008, 0.016),
    optimizer=partial(torch.optim.AdamW, fused=True),
    grown_widths=("*.up",),
    growth_ends=0.3,
    arms=(*(f"zero, {state}" for state in ARMS), "scratch", "narrow"),
    tuning_steps=750,
    seeds=8,
)


def _with_heads(heads: int) -> ByteModel:
    return ByteModel(96, heads)


HEADS = replace(TASK, name="lm-heads", make=_with_heads, widths=(2, 6), grown_widths=("*.qkv",))


DEPTHS = {16: 1, 96: 4}
"""Blocks by the neurons of their MLPs."""


def _deep(width: int) -> ByteModel:
    return ByteModel(width, depth=DEPTHS[width])


DEEP = replace(
    TASK,
    name="lm-deep",
    make=_deep,
    widths=tuple(DEPTHS),
    blocks=tuple(DEPTHS.values()),
    rates=(0.004, 0.008, 0.016),
    arms=(
        "blocks, new",
        "blocks, copied",
        "blocks, stack",
        "with 80 % of the FLOPs",
        "with 70 % of the FLOPs",
        "scratch",
        "narrow",
    ),
    shortened={
        "with 80 % of the FLOPs": Shortened("blocks, new", 0.8),
        "with 70 % of the FLOPs": Shortened("blocks, new", 0.7),
    },
)
