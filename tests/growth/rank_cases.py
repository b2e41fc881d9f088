"""What two processes do together, and one alone on the same examples. Run by ``test_data_parallel.py``."""

import gc
import os
import warnings
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from fxgrow import BatchLoss, Budget, Firefly, Growth, RandomGrowth, Splitting, grow
from fxgrow.errors import FxgrowError
from fxgrow.methods import NASH, GradientPool, GradMax, ZeroOutgoing
from fxgrow.training import Grower, OnPlateau

Batch = tuple[Tensor, Tensor]
SHARDS = (slice(0, 3), slice(3, 10))
"""Uneven: the first process has three examples of each batch, the second seven."""
EVEN = (slice(0, 5), slice(5, 10))
SINGLE = (slice(0, 1), slice(1, 10))
"""A batch of one example has no variance of its own."""
FOUR = (slice(0, 1), slice(1, 3), slice(3, 6), slice(6, 10))
METHODS: dict[str, Any] = {
    "Firefly": Firefly(new=3, steps=4, refine_steps=2),
    "ZeroOutgoing": ZeroOutgoing(),
    "GradientPool": GradientPool(),
    "RandomGrowth": RandomGrowth(draws=2),
    "Splitting": Splitting(),
}


class Whole(nn.Module):
    """A part that is one call in the graph, since its code asks for values; a batch norm lies inside."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(size)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x) if float(x.detach().abs().sum()) >= 0 else x


class Head(nn.Module):
    """From maps to four scores."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.b(torch.tanh(self.a(x.mean((2, 3)))))
        return scores


class TwoHeads(nn.Module):
    """Of the examples of the first process only one head is used, of those of the second the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Head(), Head()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.first(x), self.second(x)


class Block(nn.Module):
    """A transformer block with causal attention."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.before_attention, self.before_mlp = nn.LayerNorm(size), nn.LayerNorm(size)
        self.qkv, self.out = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.up, self.down = nn.Linear(size, 12), nn.Linear(12, size)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            self.qkv(self.before_attention(x)).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.before_mlp(x))))


class Transformer(nn.Module):
    """From sequences of pixels to four scores."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.blocks = nn.ModuleList(Block(8) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x.flatten(1, 2))
        for block in self.blocks:
            h = block(h)
        scores: Tensor = self.head(self.norm(h).mean(1))
        return scores


def transformer() -> nn.Module:
    torch.manual_seed(0)
    return Transformer().double()


DEEPER = {
    "method": Firefly(new=2, layers=2, steps=3, refine_steps=2),
    "budget": Budget(neurons=4, layers=1),
}
BLOCKS = {
    "method": Firefly(new=2, steps=3, refine_steps=2),
    "budget": Budget(neurons=4, layers=1),
    "layers": "block:blocks",
}
ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "layers": (lambda: network(), DEEPER),
    "transformer": (transformer, {"method": METHODS["Firefly"]}),
    "transformer, layers": (transformer, DEEPER),
    "transformer, blocks": (transformer, BLOCKS),
}
"""What else grows: a model, and how."""


def by_architecture(name: str, shard: slice) -> dict[str, Any]:
    make, options = ARCHITECTURES[name]
    model = make()
    return told(model, grown(model, shard=shard, **options))


def network(part: Callable[[int], nn.Module] = nn.BatchNorm2d) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        part(6),
        Head(),
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return model.double()


def batches(shard: slice, count: int = 6) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(count):
        x = torch.randn(10, 1, 6, 6, generator=generator, dtype=torch.float64)
        y = torch.randint(4, (10,), generator=generator)
        found.append((x[shard], y[shard]))
    return found


def told(model: nn.Module, growth: Growth) -> dict[str, Any]:
    """What has to be the same."""
    return {
        "state": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "losses": [growth.report.loss_before, growth.report.loss_after],
        "widths": [one.model_dump(exclude={"scores"}) for one in growth.report.widths],
    }


def grown(model: nn.Module, method: Any, shard: slice, **options: Any) -> Growth:
    given = {"budget": Budget(neurons=4), "accept_no_gain": True, "inplace": True, **options}
    return grow(model, batches(shard), F.cross_entropy, method=method, **given)


def by_method(name: str, shard: slice) -> dict[str, Any]:
    model = network()
    return told(model, grown(model, METHODS[name], shard))


def opaque(shard: slice) -> dict[str, Any]:
    model = network(Whole)
    return told(model, grown(model, METHODS["ZeroOutgoing"], shard))


def trained(shard: slice, wrap: Callable[[nn.Module], nn.Module]) -> dict[str, Any]:
    """Train, grow in place, and train on with the same optimizer."""
    model = network()
    wrapped = wrap(model)
    optimizer = torch.optim.Adam(wrapped.parameters(), lr=1e-2)
    wrapped.eval()  # statistics of batches of another size would be others
    for x, y in batches(shard)[:2]:
        _step(wrapped, optimizer, x, y)
    growth = grown(wrapped, METHODS["Firefly"], shard, optimizer=optimizer)
    for x, y in batches(shard)[2:]:
        _step(wrapped, optimizer, x, y)
    return told(model, growth)


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


def wrapped_with_a_hook(model: nn.Module) -> nn.Module:
    wrapped = DistributedDataParallel(model, gradient_as_bucket_view=True)
    wrapped.register_comm_hook(None, allreduce_hook)
    return wrapped


def copied(rank: int) -> dict[str, Any]:
    """A copy of what is inside the wrapper grows; the wrapper stays as it is."""
    wrapped = DistributedDataParallel(network())
    before = {name: tensor.clone() for name, tensor in wrapped.state_dict().items()}
    growth = grown(wrapped, METHODS["ZeroOutgoing"], SHARDS[rank], inplace=False)
    after = wrapped.state_dict()
    is_same = all(torch.equal(after[name], tensor) for name, tensor in before.items())
    return {"class": type(growth.module).__name__, "same": is_same, "grown": str(growth.report)}


def other_statistics(rank: int) -> dict[str, Any]:
    """Running statistics differ between processes that trained, and are not estimated anew."""
    model = network()
    model[1].running_mean.add_(rank)  # type: ignore[operator]
    method = METHODS["ZeroOutgoing"]
    return told(model, grown(model, method, SHARDS[rank], refresh_statistics=False))


def outcome(model: nn.Module, grow_it: Callable[[], object]) -> dict[str, Any]:
    """The code of the error, and whether the model is as it was."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        grow_it()
    except FxgrowError as error:
        after = model.state_dict()
        is_same = all(torch.equal(after[name], tensor) for name, tensor in before.items())
        return {"code": error.code, "message": str(error), "same": is_same}
    return {"code": "", "message": "", "same": False}


def refused(rank: int, method: Any, **options: Any) -> dict[str, Any]:
    model = network()
    return outcome(model, lambda: grown(model, method, SHARDS[rank], **options))


def failing(rank: int) -> dict[str, Any]:
    """The second process fails in the middle of the search."""
    left = [8]

    def loss(output: Tensor, target: Tensor) -> Tensor:
        left[0] -= 1
        if rank == 1 and left[0] < 0:
            raise ValueError("no more")
        return F.cross_entropy(output, target)

    model, method = network(), METHODS["Firefly"]
    kept = batches(SHARDS[rank])
    return outcome(model, lambda: grow(model, kept, loss, method=method, inplace=True))


def one_more_batch(rank: int) -> dict[str, Any]:
    model, method = network(), METHODS["ZeroOutgoing"]
    kept = batches(SHARDS[rank], count=3 + rank)
    return outcome(model, lambda: grow(model, kept, F.cross_entropy, method=method, inplace=True))


def other_weights(rank: int) -> dict[str, Any]:
    model, method = network(), METHODS["ZeroOutgoing"]
    with torch.no_grad():
        model[0].weight.add_(rank)  # type: ignore[operator]
    return outcome(model, lambda: grown(model, method, SHARDS[rank]))


def killed(rank: int) -> dict[str, Any]:
    """The second process is gone in the middle of the search."""

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        if rank == 1 and torch.is_grad_enabled() and distributed.is_initialized():
            calls.append(1)
            if len(calls) > 12:
                os._exit(0)
        return F.cross_entropy(model(batch[0]), batch[1])

    calls: list[int] = []
    model, kept = network(), batches(SHARDS[rank])
    options = {"example_inputs": kept[0][0], "method": METHODS["Firefly"], "inplace": True}
    return outcome(model, lambda: grow(model, kept, BatchLoss(loss), **options))


def one_head_each(shard: slice) -> dict[str, Any]:
    """A candidate has no gradient where no example uses its head; in the mean it has one."""

    def loss(scores: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        is_first, labels = target[:, 0] == 1, target[:, 1]
        parts = []
        for head, uses in zip(scores, (is_first, ~is_first), strict=True):
            if uses.any():
                parts.append(F.cross_entropy(head[uses], labels[uses], reduction="sum"))
        return torch.stack(parts).sum() / len(target)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), TwoHeads()).double()
    kept = []
    for x, y in batches(slice(0, 10)):
        flags = (torch.arange(len(y)) < SHARDS[0].stop).long()
        kept.append((x[shard], torch.stack([flags, y], 1)[shard]))
    growth = grow(
        model, kept, loss, method=METHODS["Firefly"], budget=Budget(neurons=4), accept_no_gain=True,
        inplace=True,
    )  # fmt: skip
    return told(model, growth)


def counted(calls: list[int], bucket: distributed.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]  # torch does not say that it has it
    """A hook of communication that says how often it was called."""
    calls.append(1)
    return allreduce_hook(None, bucket)


def in_a_loop(rank: int) -> dict[str, Any]:
    """A grower of the wrapper, whose trigger decides by the mean of what the processes measure."""
    wrapped, calls = DistributedDataParallel(network()), list[int]()
    wrapped.register_comm_hook(calls, counted)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=1e-2)
    grower = Grower(
        wrapped,
        optimizer,
        loss_fn=F.cross_entropy,
        when=OnPlateau(patience=1),
        method=METHODS["ZeroOutgoing"],
        budget=Budget(neurons=4),
    )
    # In the first process the loss falls, in the second it rises more: the mean does not fall.
    losses = [(1.0, 1.0), (0.9, 1.5), (0.8, 2.0), (0.7, 2.5)]
    steps = []
    for by_rank in losses:
        growth = grower.step(batches(SHARDS[rank]), loss=by_rank[rank])
        steps.append(growth is not None)
        for x, y in batches(EVEN[rank])[:1]:
            _step(wrapped, optimizer, x, y)
    measured = [one.loss for one in grower.history.measurements]
    is_kept = grower.model is wrapped
    told = {"steps": steps, "losses": measured, "kept": is_kept, "hooked": len(calls)}
    return {**told, "state": wrapped.state_dict()}


TOGETHER: dict[str, Callable[[int], dict[str, Any]]] = {
    **{name: partial(lambda name, rank: by_method(name, SHARDS[rank]), name) for name in METHODS},
    **{
        name: partial(lambda name, rank: by_architecture(name, SHARDS[rank]), name)
        for name in ARCHITECTURES
    },
    "single example": lambda rank: by_method("Firefly", SINGLE[rank]),
    "opaque": lambda rank: opaque(SHARDS[rank]),
    "trained": lambda rank: trained(EVEN[rank], wrapped_with_a_hook),
    "other statistics": other_statistics,
    "copied": copied,
    "in a loop": in_a_loop,
    "one head each": lambda rank: one_head_each(SHARDS[rank]),
    "nash": partial(refused, method=NASH()),
    "gradmax": partial(refused, method=GradMax()),
    "latency": partial(refused, method=METHODS["ZeroOutgoing"], budget=Budget(latency=1.5)),
    "failing": failing,
    "one more batch": one_more_batch,
    "other weights": other_weights,
    # Last: the group cannot be used after it.
    "killed": killed,
}


BY_FOUR: dict[str, Callable[[int], dict[str, Any]]] = {
    "Firefly": lambda rank: by_method("Firefly", FOUR[rank]),
    "transformer, blocks": lambda rank: by_architecture("transformer, blocks", FOUR[rank]),
    "layers": lambda rank: by_architecture("layers", FOUR[rank]),
}


def run_rank(
    rank: int, folder: Path, count: int, cases: dict[str, Callable[[int], dict[str, Any]]]
) -> None:
    """Run every case in one of some processes, and write what came of it."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'store'}",
        rank=rank,
        world_size=count,
        timeout=timedelta(seconds=60),
    )
    for name, case in cases.items():
        torch.save(case(rank), folder / f"{name}-{rank}")
    # Threads of a group that wrappers in cycles still hold could abort Python while it ends.
    gc.collect()
    distributed.destroy_process_group()


def run_one_of_two(rank: int, folder: Path) -> None:
    """A process beside another one."""
    run_rank(rank, folder, 2, TOGETHER)


def run_one_of_four(rank: int, folder: Path) -> None:
    """A process beside three others."""
    run_rank(rank, folder, 4, BY_FOUR)


def alone(name: str) -> dict[str, Any]:
    """The same in one process that has all examples."""
    whole = slice(0, 10)
    if name in METHODS:
        return by_method(name, whole)
    if name in ARCHITECTURES:
        return by_architecture(name, whole)
    if name == "single example":
        return by_method("Firefly", whole)
    if name == "one head each":
        return one_head_each(whole)
    return trained(whole, lambda model: model)
