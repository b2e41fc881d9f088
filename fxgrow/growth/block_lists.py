"""Lists of blocks in a model that become longer: ``nn.ModuleList`` and ``nn.Sequential``.

References for where new blocks lie: Wu et al., "LLaMA Pro", ACL 2024, section 3.2 (one after each
group of blocks, ``spread``); Du et al., "Stacking Your Transformers", NeurIPS 2024, section 3
(G_stack: the whole list once more, ``stack``); Kim et al., "SOLAR 10.7B", NAACL 2024, section 2.1
(depth up-scaling: the first and the last blocks overlap in the middle ones, ``middle``).
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from fxgrow.copying import Memo, copy_module
from fxgrow.errors import GrowthError
from fxgrow.spec import BlockInsertion
from fxgrow.surgery import is_config, random_entries

_INDEX_NAME = re.compile(r"((layer|block|depth)_)?(idx|index|id|num|number)")
_ENOUGH_TO_TELL = 3
"""In so many blocks an attribute that is 0, 1, 2 is no accident, whatever its name."""
_MAX_LISTED = 8


@dataclass(frozen=True)
class BlockLayout:
    """A longer list, place by place.

    Args:
        path: of the list in the model.
        sources: the old number of the block that lies there, or is copied there.
        is_new: whether it is a copy.
        old_names, new_names: the names of the blocks in the list.
    """

    path: str
    sources: tuple[int, ...]
    is_new: tuple[bool, ...]
    old_names: tuple[str, ...]
    new_names: tuple[str, ...]

    @property
    def copied(self) -> tuple[int, ...]:
        """The old numbers of the blocks that are copied, each once."""
        pairs = zip(self.sources, self.is_new, strict=True)
        return tuple(sorted({source for source, is_new in pairs if is_new}))

    def old_path(self, number: int) -> str:
        """The path of a block before."""
        return f"{self.path}.{self.old_names[number]}".removeprefix(".")

    def new_path(self, place: int) -> str:
        """The path of a block of the longer list."""
        return f"{self.path}.{self.new_names[place]}".removeprefix(".")

    @property
    def new_blocks(self) -> dict[str, str]:
        """The path of each new block, and the old path of what it is a copy of."""
        found = {}
        for place, (source, is_new) in enumerate(zip(self.sources, self.is_new, strict=True)):
            if is_new:
                found[self.new_path(place)] = self.old_path(source)
        return found

    def record(self, gains: Mapping[str, float]) -> BlockInsertion:
        """The longer list, as a history tells it; ``gains`` are those of copies of its blocks."""
        new = tuple(place for place, is_new in enumerate(self.is_new) if is_new)
        names = self.new_names
        scores = []
        if gains:
            scores = [gains[self.old_path(self.sources[place])] for place in new]
        return BlockInsertion(
            blocks=self.path, sources=self.sources, new=new, names=names, scores=tuple(scores)
        )

    @property
    def renamed(self) -> dict[str, str]:
        """The new path of each old block that has another name now."""
        found = {}
        for place, (source, is_new) in enumerate(zip(self.sources, self.is_new, strict=True)):
            if not is_new and self.new_path(place) != self.old_path(source):
                found[self.old_path(source)] = self.new_path(place)
        return found


def is_block_list(module: nn.Module) -> bool:
    """Whether a module is a list of blocks that can become longer."""
    return isinstance(module, (nn.ModuleList, nn.Sequential)) and len(module) > 0


def block_list(model: nn.Module, path: str) -> nn.Module:
    """The list of blocks at a path.

    Raises:
        GrowthError: ``unknown-blocks``.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules())
    if path in modules and is_block_list(modules[path]):
        return modules[path]
    known = [repr(name) for name, module in modules.items() if is_block_list(module)]
    listed = f"there are {', '.join(known[:_MAX_LISTED]) or 'none'}"
    if isinstance(model, fx.GraphModule):
        listed = "a graph has none; make a model of the class, and load these parameters into it"
    raise GrowthError(
        "unknown-blocks",
        f"{type(model).__name__} has no nn.ModuleList or nn.Sequential of blocks called {path!r}; "
        f"{listed}",
    )


def layout_of(blocks: nn.Module, path: str, order: Sequence[tuple[int, bool]]) -> BlockLayout:
    """The longer list of the given order.

    Args:
        blocks: the list as it is.
        path: its path.
        order: for each place the old number of a block, and whether it is a copy.

    Raises:
        GrowthError: ``bad-blocks`` if the blocks have names of their own.
    """
    old_names = tuple(blocks._modules)
    sources, is_new = zip(*order, strict=True)
    new_names = tuple(_continued(old_names, len(order), path))
    return BlockLayout(path, tuple(sources), tuple(is_new), old_names, new_names)


def recorded_layout(model: nn.Module, record: BlockInsertion) -> BlockLayout:
    """The longer list that a step of a history tells of.

    Args:
        model: the model before it, or its graph, which has containers in the place of lists.
        record: what the step did to one list.

    Raises:
        GrowthError: ``unknown-blocks`` if the model has no such list, or one of another length.
    """
    new = set(record.new)
    order = []
    for place, source in enumerate(record.sources):
        order.append((source, place in new))
    old = [source for source, is_new in order if not is_new]
    blocks = dict(model.named_modules()).get(record.blocks)
    length = 0 if blocks is None else len(blocks._modules)
    # What is copied has to be there, and something has to lie before a copy.
    fits = old == list(range(length)) and 0 not in new and max(record.sources, default=0) < length
    if blocks is None or not fits:
        message = f"there is no list {record.blocks!r} of {len(old)} blocks that could be copied so"
        raise GrowthError("unknown-blocks", f"{message}; give the model that the history starts at")
    return layout_of(blocks, record.blocks, order)


def _continued(names: Sequence[str], length: int, path: str) -> Iterator[str]:
    """Names that count on as those of a list do (``layer_0``, ``layer_1``)."""
    prefix, first = re.fullmatch(r"(.*?)(\d*)", names[0]).groups()  # type: ignore[union-attr]
    start = int(first or 0)  # torchvision's lists count from 0, those of others from 1
    counted = [f"{prefix}{start + number}" for number in range(max(length, len(names)))]
    if not first or counted[: len(names)] != list(names):
        raise GrowthError(
            "bad-blocks",
            f"the blocks of {path!r} are called {', '.join(names[:_MAX_LISTED])}, so there is no "
            "name for one more; name them by number",
        )
    yield from counted


def order_after(length: int, positions: Sequence[int]) -> list[tuple[int, bool]]:
    """One new block, a copy of its neighbour, after each of some old ones.

    Args:
        length: of the list.
        positions: the old numbers, each as often as it is to be copied.
    """
    order = []
    for number in range(length):
        order.append((number, False))
        order += [(number, True)] * list(positions).count(number)
    return order


def spread_positions(length: int, count: int) -> list[int]:
    """After which blocks new ones lie, as evenly as possible; of few the last lies at the end."""
    positions = []
    for place in range(count):
        is_few = count <= length
        positions.append((place + 1) * length // count - 1 if is_few else place * length // count)
    return positions


def stacked_order(length: int, count: int) -> list[tuple[int, bool]]:
    """The blocks once more from the first one on, behind the last (G_stack)."""
    old = [(number, False) for number in range(length)]
    return old + [(place % length, True) for place in range(count)]


def middle_order(length: int, count: int) -> list[tuple[int, bool]]:
    """The middle blocks twice, one after the other (SOLAR): ``count`` is at most ``length``."""
    start = (length - count) // 2
    order = [(number, False) for number in range(start + count)]
    order += [(number, True) for number in range(start, start + count)]
    return order + [(number, False) for number in range(start + count, length)]


def insert_blocks(model: nn.Module, layout: BlockLayout) -> None:
    """Make a list longer in place.

    Old blocks stay the same objects. A copy shares with the model what its original shares with
    modules outside of it (a table of positions, a config, tied parameters). Attributes that hold
    the number of a block in its list (``layer_idx``) follow.

    Args:
        model: holds the list.
        layout: the longer list.
    """
    blocks = model.get_submodule(layout.path)
    old = [blocks._modules[name] for name in layout.old_names]
    # Before the list changes: afterwards two blocks have the same number.
    counted = _number_attributes(old)
    table: dict[str, nn.Module | None] = {}
    places = zip(layout.new_names, layout.sources, layout.is_new, strict=True)
    for name, source, is_new in places:
        table[name] = _copy_block(model, layout.old_path(source)) if is_new else old[source]
    # In its own table, so that lists of any class stay what they are, with their attributes.
    blocks._modules.clear()
    blocks._modules.update(table)
    for place, block in enumerate(table.values()):
        for path, attribute in counted:
            if block is not None:
                vars(block.get_submodule(path))[attribute] = place


def _number_attributes(blocks: Sequence[nn.Module | None]) -> list[tuple[str, str]]:
    """The attributes (path in the block, name) that are the number of the block in its list."""
    values: dict[tuple[str, str], list[int]] = {}
    for block in blocks:
        for path, module in [] if block is None else block.named_modules():
            for name, value in vars(module).items():
                # Exactly int: True and False are numbers, too.
                if type(value) is int and not name.startswith("_"):
                    values.setdefault((path, name), []).append(value)
    found = []
    for key, numbers in values.items():
        is_known = _INDEX_NAME.fullmatch(key[1]) is not None
        if numbers == list(range(len(blocks))) and (is_known or len(numbers) >= _ENOUGH_TO_TELL):
            found.append(key)
    return found


def _copy_block(model: nn.Module, path: str) -> nn.Module:
    """A deep copy of a block, but for what is not its own."""
    memo: Memo = {id(outside): outside for outside in _held_outside(model, path)}
    # One config is held by all modules; a copy would not follow when it is replaced.
    for module in model.get_submodule(path).modules():
        for value in vars(module).values():
            if is_config(value):
                memo[id(value)] = value
    return copy_module(model.get_submodule(path), memo)


def _held_outside(model: nn.Module, path: str) -> Iterator[Any]:
    """The modules and tensors that something outside a block holds, whoever else does."""
    inside = f"{path}."
    for module_path, module in model.named_modules(remove_duplicate=False):
        if module_path == path or module_path.startswith(inside):
            continue
        yield module
        yield from module._parameters.values()
        yield from module._buffers.values()


def own_parameters(block: nn.Module, original: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a copy that it does not share with its original, by name."""
    shared = {id(parameter) for parameter in original.parameters()}
    own = {}
    for name, parameter in block.named_parameters():
        if id(parameter) not in shared:
            own[name] = parameter
    return own


@torch.no_grad()
def draw_weights(parameters: Iterable[nn.Parameter], generator: torch.Generator) -> None:
    """Draw matrices and kernels anew, with the spread that they have; vectors stay.

    Args:
        parameters: of a copied block. Gains, biases and running statistics stay those of the block
            that it is a copy of.
        generator: draws.
    """
    for parameter in parameters:
        if parameter.dim() > 1 and parameter.shape[0]:
            parameter.copy_(random_entries(parameter, 0, parameter.shape[0], generator))
