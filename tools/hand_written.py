"""A ResNet-18 and a GPT written by hand, for any widths: what ``tools/bench_emitted.py`` compares grown models with.

Every layer has the width that it is told, and a residual layer may follow the last block of a stage, as fxgrow inserts
them. ``sizes_of`` reads these numbers from a model, grown or not, by the paths of its modules.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEAD_SIZE = 16
"""Numbers per attention head."""


@dataclass(frozen=True)
class Sizes:
    """The widths of a network.

    Args:
        streams: channels of each stage (ResNet), or of the one stream (GPT).
        hidden: per stage and block, the neurons inside: between the two convolutions, or of the MLP.
        heads: per stage and block, attention heads; empty without attention.
        extra: per stage, neurons of the residual layer behind it; 0 for none.
    """

    streams: tuple[int, ...]
    hidden: tuple[tuple[int, ...], ...]
    heads: tuple[tuple[int, ...], ...] = ()
    extra: tuple[int, ...] = ()

    def extra_of(self, stage: int) -> int:
        """Neurons of the residual layer behind a stage."""
        return self.extra[stage] if self.extra else 0


class ExtraConvolution(nn.Module):
    """``x + C relu(W x)``."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.incoming = nn.Conv2d(channels, hidden, 3, padding=1)
        self.outgoing = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outgoing(F.relu(self.incoming(x)))


class ExtraToken(nn.Module):
    """``x + C gelu(W x)`` of every token."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.incoming = nn.Linear(channels, hidden)
        self.outgoing = nn.Linear(hidden, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outgoing(F.gelu(self.incoming(x)))


class BasicBlock(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, hidden, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))
        self.out = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        inside = F.relu(self.norm1(self.conv1(x)))
        out: Tensor = self.out(self.norm2(self.conv2(inside)) + self.shortcut(x))
        return out


class ResNet(nn.Module):
    """The ResNet-18 of torchvision with the stem for small images, four stages of blocks."""

    def __init__(self, sizes: Sizes, classes: int = 10) -> None:
        super().__init__()
        inputs = sizes.streams[0]
        self.stem = nn.Conv2d(3, inputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(inputs)
        self.stages, self.extra = nn.ModuleList(), nn.ModuleList()
        for stage, (outputs, blocks) in enumerate(zip(sizes.streams, sizes.hidden, strict=True)):
            parts = []
            for number, hidden in enumerate(blocks):
                stride = 2 if stage and not number else 1
                parts.append(BasicBlock(inputs, hidden, outputs, stride))
                inputs = outputs
            self.stages.append(nn.Sequential(*parts))
            extra = sizes.extra_of(stage)
            self.extra.append(ExtraConvolution(outputs, extra) if extra else nn.Identity())
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        for stage, extra in zip(self.stages, self.extra, strict=True):
            x = extra(stage(x))
        out: Tensor = self.head(x.mean((2, 3)))
        return out


class Attention(nn.Module):
    """Causal attention of any number of heads of a given size."""

    def __init__(self, channels: int, heads: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.query = nn.Linear(channels, heads * size)
        self.key = nn.Linear(channels, heads * size)
        self.value = nn.Linear(channels, heads * size)
        self.project = nn.Linear(heads * size, channels)

    def forward(self, x: Tensor) -> Tensor:
        def by_head(y: Tensor) -> Tensor:  # [batch, heads, tokens, size]
            return y.unflatten(2, (-1, self.size)).transpose(1, 2)

        q, k, v = by_head(self.query(x)), by_head(self.key(x)), by_head(self.value(x))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.project(attended.transpose(1, 2).flatten(2))
        return out


class TransformerBlock(nn.Module):
    """Attention and an MLP, each behind a layer norm and beside the stream (GPT-2)."""

    def __init__(self, channels: int, hidden: int, heads: int, size: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = Attention(channels, heads, size)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels)
        )
        self.out = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        out: Tensor = self.out(x + self.mlp(self.norm2(x)))
        return out


class GPT(nn.Module):
    """A GPT over bytes, whose blocks are one stage."""

    def __init__(self, sizes: Sizes, tokens: int = 64, words: int = 256) -> None:
        super().__init__()
        size = HEAD_SIZE
        (channels,), (hidden,), (heads,) = sizes.streams, sizes.hidden, sizes.heads
        self.words, self.places = nn.Embedding(words, channels), nn.Embedding(tokens, channels)
        self.register_buffer("order", torch.arange(tokens))
        blocks = [
            TransformerBlock(channels, h, n, size) for h, n in zip(hidden, heads, strict=True)
        ]
        self.stages = nn.ModuleList([nn.Sequential(*blocks)])
        extra = sizes.extra_of(0)
        self.extra = nn.ModuleList([ExtraToken(channels, extra) if extra else nn.Identity()])
        self.norm, self.head = nn.LayerNorm(channels), nn.Linear(channels, words)

    def forward(self, x: Tensor) -> Tensor:
        x = self.words(x) + self.places(self.order)
        for stage, extra in zip(self.stages, self.extra, strict=True):
            x = extra(stage(x))
        out: Tensor = self.head(self.norm(x))
        return out


def sizes_of(model: nn.Module, extra: Sequence[int] = ()) -> Sizes:
    """The widths that a network has by now, by the paths of its modules.

    Args:
        model: a ``ResNet`` or ``GPT``, grown or not; a graph module of one, too.
        extra: neurons of the residual layers that were inserted behind its stages.
    """
    streams, hidden, heads = [], [], []
    for stage in model.get_submodule("stages").children():
        blocks = [dict(block.named_modules()) for block in stage.children()]
        if "conv1" in blocks[0]:
            streams.append(blocks[0]["conv2"].out_channels)
            hidden.append(tuple(block["conv1"].out_channels for block in blocks))
            continue
        streams.append(blocks[0]["mlp.0"].in_features)
        hidden.append(tuple(block["mlp.0"].out_features for block in blocks))
        heads.append(tuple(block["attention.query"].out_features // HEAD_SIZE for block in blocks))
    return Sizes(tuple(streams), tuple(hidden), tuple(heads), tuple(extra))
