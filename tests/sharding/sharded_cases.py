"""What processes do together with sharded models, and one alone. Run by ``test_sharded_model.py``."""

import importlib
import math
import os
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn import functional as F

from fxgrow import Budget, Firefly, Growth, capture, couple, grow, widen
from fxgrow.errors import FxgrowError
from fxgrow.growth.invariants import agreed_error
from fxgrow.methods import GradientPool
from fxgrow.methods.firefly.neighborhood import candidate_directions
from fxgrow.ranks import Ranks
from fxgrow.rewrite import overgrow
from fxgrow.sharding.gathering import Parts
from fxgrow.training import (
    AtEpochs,
    Grower,
    load_sharded,
    read_sharded_state,
    regrow_from_state,
    save_sharded,
)
from tests.growth import rank_cases
from tests.growth.rank_cases import EVEN, FOUR, METHODS, SHARDS, Block, batches

widening: Any = importlib.import_module("fxgrow.growth.widen")  # the function has its name
Batch = tuple[Tensor, Tensor]
Wrap = Callable[[nn.Module], nn.Module]
WHOLE = slice(0, 10)
QUICK = Firefly(new=2, steps=1, refine_steps=1)
DEEPER = {**rank_cases.DEEPER, "method": Firefly(new=2, layers=2, steps=1, refine_steps=1)}
BLOCKS = {"method": QUICK, "budget": Budget(neurons=40, layers=1), "layers": "block:blocks"}


def grown(model: nn.Module, method: Any, shard: slice, **options: Any) -> Growth:
    given = {"budget": Budget(neurons=4), "accept_no_gain": True, "inplace": True, **options}
    return grow(model, batches(shard, count=3), F.cross_entropy, method=method, **given)


class Gpt(nn.Module):
    """From tokens to the next ones, with one matrix to look up and to tell."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(11, 8), nn.Parameter(torch.randn(6, 8))
        self.blocks = nn.ModuleList(Block(8) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 11, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens(x) + self.places
        for block in self.blocks:
            h = block(h)
        scores: Tensor = self.head(self.norm(h))
        return scores.flatten(0, 1)


def gpt() -> nn.Module:
    torch.manual_seed(0)
    return Gpt()


def tokens(shard: slice) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    texts = [torch.randint(11, (10, 7), generator=generator) for _ in range(6)]
    return [(text[shard, :-1], text[shard, 1:].flatten()) for text in texts]


def sharded(model: nn.Module, **options: Any) -> nn.Module:
    """Units are the blocks or the first layers, and the rest."""
    parts: Any = getattr(model, "blocks", None) or [model[0], model[-1]]  # type: ignore[index]
    for part in parts:
        fully_shard(part, **options)
    return fully_shard(model, **options)  # type: ignore[return-value]


def hybrid(model: nn.Module) -> nn.Module:
    """Two replicas of two shards."""
    return sharded(model, mesh=init_device_mesh("cpu", (2, 2), mesh_dim_names=("replica", "shard")))


def unsharded(model: nn.Module) -> nn.Module:
    return model


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    state = {}
    for name, tensor in model.state_dict().items():
        state[name] = (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).clone()
    return state


def told(model: nn.Module, growth: Any) -> dict[str, Any]:
    """What has to be the same."""
    return {**rank_cases.told(nn.Module(), growth), "state": whole_state(model)}


def by_method(
    shard: slice, wrap: Wrap, make: Callable[[], nn.Module], **options: Any
) -> dict[str, Any]:
    model = wrap(make())
    growth = grown(model, shard=shard, **options)
    units = [
        isinstance(one, FSDPModule) for one in growth.module.modules() if isinstance(one, Block)
    ]
    return {**told(growth.module, growth), "units": units}


def language(shard: slice, wrap: Wrap) -> dict[str, Any]:
    model = wrap(gpt())
    # By text, of which there may be more in one process than in the other.
    kept = [(x, y.unflatten(0, (len(x), -1))) for x, y in tokens(shard)]
    growth = grow(
        model,
        kept,
        lambda scores, y: F.cross_entropy(scores, y.flatten()),
        method=GradientPool(),
        budget=Budget(neurons=4),
        accept_no_gain=True,
        inplace=True,
    )
    return told(model, growth)


def trained(shard: slice, wrap: Wrap) -> dict[str, Any]:
    """Train, grow in place with the optimizer, and train on."""
    model = wrap(rank_cases.transformer())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for x, y in batches(shard)[:2]:
        rank_cases._step(model, optimizer, x, y)
    growth = grown(model, QUICK, shard, optimizer=optimizer)
    for x, y in batches(shard)[2:]:
        rank_cases._step(model, optimizer, x, y)
    return told(model, growth)


def widened(shard: slice, wrap: Wrap) -> dict[str, Any]:
    """A copy is widened; what a coupling says needs no exchange."""
    model = wrap(rank_cases.transformer())
    x = batches(shard)[0][0]
    gathered = Gathered()
    with gathered:
        names = {width.name: 3 for width in couple(model, x).widths if width.growable}
    before = whole_state(model)
    wider = widen(model, names, x)
    after = whole_state(model)
    return {
        "state": whole_state(wider.module),
        "names": sorted(names),
        "gathered": gathered.count,
        "same": all(torch.equal(after[name], one) for name, one in before.items()),
    }


class Gathered:
    """Counts what is gathered, and the most bytes of it that there are at once."""

    def __init__(self) -> None:
        self.count, self.bytes, self.now, self.most = 0, 0, 0, 0

    def __enter__(self) -> "Gathered":
        self.gathered = Parts.gathered
        Parts.gathered = self._counted()  # type: ignore[method-assign, assignment]
        return self

    def __exit__(self, *_: object) -> None:
        Parts.gathered = self.gathered  # type: ignore[method-assign]

    def _counted(self) -> Callable[[Parts], Tensor]:
        def counted(parts: Parts) -> Tensor:
            tensor = self.gathered(parts)
            size = tensor.untyped_storage().nbytes()
            self.count, self.bytes = self.count + 1, self.bytes + size
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(tensor.untyped_storage(), self._let_go, size)
            return tensor

        return counted

    def _let_go(self, size: int) -> None:
        self.now -= size


def memory(rank: int) -> dict[str, Any]:
    """How much is gathered at once while a model grows."""
    model = sharded(rank_cases.transformer())
    sizes = [one.numel() * one.element_size() for one in model.parameters()]
    with Gathered() as gathered:
        grown(model, QUICK, SHARDS[rank])
    return {"most": gathered.most, "largest": max(sizes), "left": gathered.now}


class Sent:
    """The sizes of the messages that are summed over the processes."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __enter__(self) -> "Sent":
        self.reduce = reduce = Ranks._reduce

        def counted(ranks: Ranks, tensor: Tensor, operation: Any) -> None:
            self.sizes.append(tensor.numel())
            reduce(ranks, tensor, operation)

        Ranks._reduce = counted  # type: ignore[method-assign, assignment]
        return self

    def __exit__(self, *_: object) -> None:
        Ranks._reduce = self.reduce  # type: ignore[method-assign]


def traffic(rank: int) -> dict[str, Any]:
    """What is sent for growth of a replicated model, and for more steps of a sharded one."""
    told: dict[str, Any] = {
        "weights": sum(one.nbytes for one in rank_cases.transformer().parameters())
    }
    for name, wrap, steps in (("plain", unsharded, 1), ("short", sharded, 1), ("long", sharded, 3)):
        method = Firefly(new=2, steps=steps, refine_steps=2)
        with Sent() as sent, Gathered() as gathered:
            grown(wrap(rank_cases.transformer()), method, SHARDS[rank])
        told[name] = {"sizes": sent.sizes, "gathered": gathered.bytes}
    return told


def candidates() -> tuple[int, int]:
    """How many numbers a search step needs of each process, and how many candidates there are."""
    model = rank_cases.transformer().requires_grad_(requires_grad=False)
    captured = capture(model, batches(WHOLE)[0][0])
    coupling = couple(captured)
    proposal = Firefly(new=2).propose(coupling)
    grown = overgrow(captured, coupling, proposal.split, proposal.new, torch.Generator())
    every_eps = [grown.candidates.split_eps, grown.candidates.new_eps]
    learning = [*candidate_directions(grown), *every_eps]
    # A gradient of each, a flag whether there is one, and the number of examples.
    return sum(one.numel() + 1 for one in learning) + 1, sum(map(len, every_eps))


def local_parts(model: nn.Module) -> dict[str, Tensor]:
    return {name: one.to_local().clone() for name, one in model.named_parameters()}  # type: ignore[attr-defined]


def outcome(model: nn.Module, work: Callable[[], object]) -> dict[str, Any]:
    """The code of the error, and whether the model is as it was: the same objects and numbers."""
    before, parameters = local_parts(model), list(model.parameters())
    try:
        work()
    except FxgrowError as error:
        after = local_parts(model)
        is_same = all(torch.equal(after[name], one) for name, one in before.items())
        is_same &= all(
            one is other for one, other in zip(parameters, model.parameters(), strict=True)
        )
        return {"code": error.code, "message": str(error), "same": is_same}
    return {"code": "", "message": "", "same": False}


def failing(rank: int) -> dict[str, Any]:
    """The second process fails in the middle of the search; then both of them train on."""
    left = [6]

    def loss(output: Tensor, target: Tensor) -> Tensor:
        left[0] -= 1
        if rank == 1 and left[0] < 0:
            raise ValueError("no more")
        return F.cross_entropy(output, target)

    model, kept = sharded(rank_cases.transformer()), batches(SHARDS[rank])
    method = QUICK
    found = outcome(model, lambda: grow(model, kept, loss, method=method, inplace=True))
    F.cross_entropy(model(kept[0][0]), kept[0][1]).backward()
    return found


def other_widths(rank: int) -> dict[str, Any]:
    model, x = sharded(rank_cases.transformer()), batches(WHOLE)[0][0]
    return outcome(model, lambda: widen(model, {"blocks.0.up": 1 + rank}, x))


def other_numbers(rank: int) -> dict[str, Any]:
    """The second process writes something else into its shards, which no exchange shows."""
    model, x = sharded(rank_cases.transformer()), batches(WHOLE)[0][0]
    drawn = widening.new_neuron_updates

    def twice_as_large(*given: Any) -> Any:
        updates = drawn(*given)
        for update in updates.values():
            for entries in update.new.values():
                entries.mul_(1 + rank)
        return updates

    widening.new_neuron_updates = twice_as_large
    try:
        return outcome(model, lambda: widen(model, {"blocks.0.up": 2}, x, how="new"))
    finally:
        widening.new_neuron_updates = drawn


def agreement(rank: int) -> dict[str, Any]:
    """The largest error decides."""
    ranks = Ranks.of_process()
    errors = ((0.25 + rank, 1.25), (math.nan if rank else 0.0, math.inf))
    return {"agreed": [agreed_error(error, ranks) == expected for error, expected in errors]}


def killed(rank: int) -> dict[str, Any]:
    """The second process is gone in the middle of the search."""
    calls: list[int] = []

    def loss(output: Tensor, target: Tensor) -> Tensor:
        calls.append(1)
        if rank == 1 and len(calls) > 12:
            os._exit(0)
        return F.cross_entropy(output, target)

    model, kept = sharded(rank_cases.transformer()), batches(SHARDS[rank])
    method = QUICK
    return outcome(model, lambda: grow(model, kept, loss, method=method, inplace=True))


def grower_of(model: nn.Module) -> Grower:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.8, 0.9))
    return Grower(
        model,
        optimizer,
        loss_fn=F.cross_entropy,
        when=AtEpochs(epochs=(1,)),
        method=METHODS["ZeroOutgoing"],
        budget=Budget(neurons=4),
        grow_steps=1,
    )


def end_of(grower: Grower, shard: slice) -> dict[str, Any]:
    """One step more, and what it leads to."""
    rank_cases._step(grower.model, grower.optimizers[0], *batches(shard)[1])
    rate = grower.optimizers[0].param_groups[0]["lr"]
    return {"state": whole_state(grower.model), "history": len(grower.history.growths), "lr": rate}


def saved(rank: int, folder: Path) -> dict[str, Any]:
    """Train, grow, train, save, and train on."""
    grower = grower_of(sharded(rank_cases.transformer()))
    step = partial(rank_cases._step, grower.model, grower.optimizers[0])
    step(*batches(EVEN[rank])[0])
    assert grower.step(batches(EVEN[rank]), loss=1.0) is not None
    grower.optimizers[0].param_groups[0]["lr"] = 5e-3
    step(*batches(EVEN[rank])[0])
    save_sharded(grower, folder / "checkpoint")
    return end_of(grower, EVEN[rank])


def resumed(shard: slice, folder: Path, wrap: Wrap) -> dict[str, Any]:
    """Grow again without numbers, shard, and load."""
    with torch.device("meta"):
        model = rank_cases.transformer()
    inputs = batches(slice(0, 1))[0][0].to("meta")
    regrow_from_state(model, read_sharded_state(folder / "checkpoint"), inputs)
    model = wrap(model).to_empty(device="cpu")
    grower = grower_of(model)
    load_sharded(grower, folder / "checkpoint")
    return end_of(grower, shard)


Case = Callable[[slice, Wrap], dict[str, Any]]
SAME_AS_ONE: dict[str, Case] = {
    "convolutions": partial(by_method, make=rank_cases.network, method=QUICK),
    "layers": partial(by_method, make=rank_cases.transformer, **DEEPER),
    "language": language,
    "trained": trained,
    "widened": widened,
}
"""What is done with a shard of each batch, and a model that is wrapped."""

FOUR_SAME_AS_ONE: dict[str, tuple[Case, Wrap]] = {
    "blocks": (partial(by_method, make=rank_cases.transformer, **BLOCKS), sharded),
    "hybrid": (partial(by_method, make=rank_cases.transformer, method=QUICK), hybrid),
}


def of_two(name: str, rank: int) -> dict[str, Any]:
    if name == "widened":  # what both compare must be the same
        return SAME_AS_ONE[name](WHOLE, sharded)
    return SAME_AS_ONE[name](EVEN[rank] if name == "trained" else SHARDS[rank], sharded)


def of_four(name: str, rank: int) -> dict[str, Any]:
    case, wrap = FOUR_SAME_AS_ONE[name]
    return case(FOUR[rank], wrap)


TOGETHER: dict[str, Callable[[int], dict[str, Any]]] = {
    **{name: partial(of_two, name) for name in SAME_AS_ONE},
    "memory": memory,
    "traffic": traffic,
    "failing": failing,
    "other widths": other_widths,
    "other numbers": other_numbers,
    "agreement": agreement,
    # Last: the group cannot be used after it.
    "killed": killed,
}
BY_FOUR: dict[str, Callable[[int], dict[str, Any]]] = {
    name: partial(of_four, name) for name in FOUR_SAME_AS_ONE
}


def run_one_of_two(rank: int, folder: Path) -> None:
    """A process beside another one."""
    rank_cases.run_rank(rank, folder, 2, {"saved": partial(saved, folder=folder), **TOGETHER})


def run_one_of_four(rank: int, folder: Path, of_two: Path) -> None:
    """A process beside three others."""

    # All see the whole batch: the mean of the means of uneven parts would be another one.
    def case(_: int) -> dict[str, Any]:
        return resumed(WHOLE, of_two, hybrid)

    rank_cases.run_rank(rank, folder, 4, {"resumed": case, **BY_FOUR})
