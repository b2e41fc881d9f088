"""A parameter that looks whole while each process keeps its part of it: gathered where it is used.

Reference: Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter
Models", SC 2020, stage 3: parameters are gathered layer by layer, in the backward pass once more.

How it works here: autograd keeps of an operator's arguments the object that it was given. That is
this one, not what was gathered for it, so the backward pass gathers again, and between two
operators a process holds its part alone. Whatever is written into the tensor is cut again.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.distributed.tensor import DTensor, Shard
from torch.utils._pytree import tree_leaves, tree_map

from fxgrow.ranks import Ranks

aten = torch.ops.aten

View = Callable[[Tensor], Tensor]
"""A view of the whole tensor."""


@dataclass(frozen=True, eq=False)
class ShardLayout:
    """How the parts of tensors lie on the processes.

    Args:
        mesh: the ``DeviceMesh``.
        placements: one for each of its dimensions: rows are cut along one, and alike along others.
        ranks: the processes, which say before each exchange whether they have failed.
        written: takes what was written, the same in all processes.
    """

    mesh: Any
    placements: tuple[Any, ...]
    ranks: Ranks
    written: Any

    def cut(self, whole: Tensor) -> "Parts":
        """Keep this process's part of a tensor that all processes have alike.

        Args:
            whole: a plain tensor of at least one dimension.
        """
        own = whole.detach()
        for dim, placement in enumerate(self.placements):
            if isinstance(placement, Shard):
                chunks = own.chunk(self.mesh.size(dim))
                number = self.mesh.get_local_rank(dim)
                # There may be fewer rows than processes: then the last ones have none.
                own = chunks[number] if number < len(chunks) else own[:0]
        if not whole.is_meta:
            self.written.update(_as_bytes(whole))
        return Parts(own.clone(memory_format=torch.contiguous_format), whole.shape, self)

    def sharded(self, local: Tensor, shape: torch.Size) -> DTensor:
        """The distributed tensor of torch that a part belongs to."""
        stride = torch.empty(shape, device="meta").stride()
        return DTensor.from_local(
            local, self.mesh, self.placements, run_check=False, shape=shape, stride=stride
        )


@dataclass(eq=False)
class Parts:
    """The numbers of one tensor. Views of it share the object, and what is written is put here.

    Args:
        local: the part of this process. It is replaced, and never written into.
        shape: of the whole tensor.
        layout: how parts lie.
    """

    local: Tensor
    shape: torch.Size
    layout: ShardLayout

    def whole(self) -> Tensor:
        """Gather all parts; nobody else holds what is given."""
        (whole,) = gathered([self])
        return whole

    @torch.no_grad()
    def gathered(self) -> Tensor:
        """The same after a flag; see ``Ranks``."""
        if self.local.is_meta:
            return self.empty()
        gathered = self.layout.sharded(self.local, self.shape).full_tensor()
        # Of one process torch gives the part itself, which nobody may write into.
        is_own = gathered.untyped_storage().data_ptr() == self.local.untyped_storage().data_ptr()
        return gathered.clone() if is_own else gathered

    def empty(self, device: Any = None) -> Tensor:
        """A tensor of the whole shape without values."""
        place = self.local.device if device is None else device
        return torch.empty(self.shape, dtype=self.local.dtype, device=place)

    def seen(self, views: tuple[View, ...]) -> Tensor:
        """What views see of a whole tensor, on the meta device."""
        # Shape and strides are all that autograd asks for, so nothing is gathered.
        seen = self.empty("meta")
        for view in views:
            seen = view(seen)
        return seen

    def copy(self, dtype: torch.dtype | None = None) -> "Parts":
        """The same numbers, which are elsewhere as soon as one of the two is written into."""
        local = self.local if dtype is None else self.local.to(dtype)
        return Parts(local, self.shape, self.layout)


def gathered(several: Sequence[Parts]) -> list[Tensor]:
    """The whole of each of some tensors, with one flag for all of them."""
    if not several:
        return []
    with several[0].layout.ranks.exchange():
        return [parts.gathered() for parts in several]


class GatheringTensor(Tensor):
    """A tensor whose numbers are gathered for each operator, and then let go.

    Args:
        parts: where they are.
        views: what is seen of the whole tensor, one view of the other.
    """

    parts: Parts
    views: tuple[View, ...]

    @staticmethod
    def __new__(cls, parts: Parts, views: tuple[View, ...] = ()) -> "GatheringTensor":
        seen = parts.seen(views)
        made: GatheringTensor = Tensor._make_wrapper_subclass(
            cls,
            seen.shape,
            strides=seen.stride(),
            dtype=seen.dtype,
            device=parts.local.device,
        )
        made.parts, made.views = parts, views
        return made

    def __init__(self, parts: Parts, views: tuple[View, ...] = ()) -> None:
        super().__init__()

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]  # untyped there
        return f"GatheringTensor({tuple(self.shape)}, {self.dtype})"

    def __deepcopy__(self, memo: dict[int, Any]) -> "GatheringTensor":
        if id(self) in memo:
            known: GatheringTensor = memo[id(self)]
            return known
        # The part is shared until one of the two is written into.
        copied = GatheringTensor(self.parts.copy(), self.views)
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, self.requires_grad)  # type: ignore[assignment]
        memo[id(self)] = copied
        return copied

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(not issubclass(kind, Tensor) for kind in types):
            return NotImplemented  # a symbolic value, which records what is done with it
        with torch._C.DisableTorchFunctionSubclass():
            if func == _SET_DATA and isinstance(args[0], GatheringTensor):
                return _set_data(*args)
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # a class method, as torch says elsewhere
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        named = dict(kwargs or {})
        if func in _LAZY_VIEWS:
            return _view_of(func, args, named)
        # Part by part: nobody reads a number here.
        if func in _COPIES and not args[0].views:
            return _copy_of(args[0], named)
        if func in _WITHOUT_VALUES:
            named.setdefault("device", args[0].device)
            return func(args[0].parts.seen(args[0].views), *args[1:], **named)
        return _gathered_call(func, args, named)


_SET_DATA = Tensor.data.__set__  # type: ignore[attr-defined]

_LAZY_VIEWS = {
    aten.detach.default,
    aten.alias.default,
    aten.t.default,
    aten.transpose.int,
    aten.permute.default,
    aten.view.default,
    aten._unsafe_view.default,
    aten.unsqueeze.default,
    aten.squeeze.dim,
    aten.select.int,
    aten.slice.Tensor,
}
"""Views that products take of their weights: autograd keeps these, and not what was gathered."""

_COPIES = {aten.clone.default, aten._to_copy.default}

_WITHOUT_VALUES = {
    aten.empty_like.default,
    aten.zeros_like.default,
    aten.ones_like.default,
    aten.full_like.default,
    aten.rand_like.default,
    aten.randn_like.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
    aten.new_zeros.default,
    aten.new_ones.default,
    aten.new_full.default,
}
"""Operators that take no more than type, place and size of a tensor."""


def _view_of(func: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> GatheringTensor:
    tensor, more = args[0], args[1:]

    def view(seen: Tensor) -> Tensor:
        found: Tensor = func(seen, *more, **named)
        return found

    # These change nothing that is seen, and a view less is a call less for every later operator.
    is_same = func in (aten.detach.default, aten.alias.default)
    views = tensor.views if is_same else (*tensor.views, view)
    return GatheringTensor(tensor.parts, views)


def _copy_of(tensor: GatheringTensor, named: Mapping[str, Any]) -> Tensor:
    """A copy, which has parts of its own; on the meta device a plain one."""
    device = named.get("device")
    if device is not None and torch.device(device) != tensor.device:
        if torch.device(device).type == "meta":
            return torch.empty(tensor.shape, dtype=named.get("dtype", tensor.dtype), device="meta")
        return aten._to_copy.default(tensor.parts.whole(), **named)  # type: ignore[no-any-return]
    return GatheringTensor(tensor.parts.copy(named.get("dtype")))


def _gathered_call(func: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Call an operator with whole tensors, and cut what it writes into them."""
    # All tensors of one operator are gathered after one flag: fewer exchanges.
    whole = _whole_arguments((args, named))

    def plain(leaf: Any) -> Any:
        return whole[id(leaf)][1] if isinstance(leaf, GatheringTensor) else leaf

    result = func(*tree_map(plain, args), **tree_map(plain, named))
    for leaf in _written(func, args, named):
        if isinstance(leaf, GatheringTensor):
            base, seen = whole[id(leaf)]
            leaf.parts.local = leaf.parts.layout.cut(base).local
            # An operator that works in place gives the tensor that it was given.
            result = leaf if result is seen else result
    return result


def _whole_arguments(given: Any) -> dict[int, tuple[Tensor, Tensor]]:
    """The whole of each gathering tensor among some arguments, and what its views see of that."""
    tensors = {}
    for leaf in tree_leaves(given):
        if isinstance(leaf, GatheringTensor):
            tensors[id(leaf)] = leaf
    bases = _finder(given)([tensor.parts for tensor in tensors.values()])
    whole = {}
    for (key, tensor), base in zip(tensors.items(), bases, strict=True):
        seen = base
        for view in tensor.views:
            seen = view(seen)
        whole[key] = base, seen
    return whole


def _finder(given: Any) -> Callable[[Sequence[Parts]], list[Tensor]]:
    """How the operator gets its tensors: gathered, unless nobody could read their numbers."""
    leaves = [leaf for leaf in tree_leaves(given) if isinstance(leaf, Tensor)]
    # With fake and meta tensors only shapes are computed, and an exchange would be for nothing.
    if any(isinstance(leaf, FakeTensor) for leaf in leaves):
        return lambda several: [parts.empty() for parts in several]
    others = [leaf for leaf in leaves if not isinstance(leaf, GatheringTensor)]
    if any(leaf.is_meta and leaf.dim() for leaf in others):
        return lambda several: [parts.empty("meta") for parts in several]
    return gathered


def _written(func: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> Iterator[Any]:
    """The arguments that an operator writes into."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        value = args[place] if place < len(args) else named.get(argument.name)
        yield from tree_leaves(value)


@torch.no_grad()
def _set_data(tensor: GatheringTensor, data: Tensor) -> None:
    """``tensor.data = data``: whole data is cut, the parts of other data are taken over."""
    if not isinstance(data, GatheringTensor):
        data = GatheringTensor(tensor.parts.layout.cut(data))
    # torch takes shape and dtype over, and knows nothing of what Python adds.
    _SET_DATA(tensor, data)
    tensor.parts, tensor.views = data.parts, data.views


def _as_bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def new_record() -> Any:
    """What takes the numbers that are written: a hash, the same in all processes."""
    return hashlib.sha256()
