"""Sizes that models write down but do not compute with: timm's ``num_features``, ``feature_info``.

Other code reads them (``reset_classifier``), so they follow a growth. An integer is taken for such
a record by its name, and only if three things hold: no code reads it while the model runs (else
``attribute_guesses`` finds it where shapes need it, and another number would change the function),
it equals the number of neurons that a run shows at the place that the name speaks of, and where
the name speaks of two places these hold the same neurons.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fxgrow.coupling.context import Context
from fxgrow.coupling.fields import flat_labels, unobserved
from fxgrow.coupling.values import Passage, Side

NAMES: Mapping[str, tuple[Side, ...]] = {
    "in_channels": (Side.INPUT,),
    "in_chs": (Side.INPUT,),
    "in_features": (Side.INPUT,),
    "in_planes": (Side.INPUT,),
    "out_channels": (Side.OUTPUT,),
    "out_chs": (Side.OUTPUT,),
    "out_features": (Side.OUTPUT,),
    "out_planes": (Side.OUTPUT,),
    "num_features": (Side.INPUT, Side.FEATURES),
}
"""Whose size an attribute of this name is, in any module that is not one of torch's own.

A classifier's ``num_features`` are those that it reads, a whole model's what its
``forward_features`` gives.
"""


@dataclass(frozen=True)
class SizeRecord:
    """An integer that may write down a size.

    Args:
        module: path of the module that holds it.
        name: the attribute.
        keys: where it is in the attribute, if that is a container.
        value: the integer.
        places: where the neurons pass that it counts.
    """

    module: str
    name: str
    keys: tuple[int | str, ...]
    value: int
    places: tuple[Passage, ...]


def size_records(model: nn.Module) -> tuple[SizeRecord, ...]:
    """The integers of a model that may write down a size, by their names.

    Args:
        model: the model.
    """
    records: list[SizeRecord] = []
    for path, module in model.named_modules():
        if not type(module).__module__.startswith("torch."):
            records += _named_sizes(path, module)
            records += _feature_sizes(path, module)
            records += _classifier_sizes(path, module)
    return tuple(records)


def _named_sizes(path: str, module: nn.Module) -> Iterator[SizeRecord]:
    for name, sides in NAMES.items():
        value = vars(module).get(name)
        if type(value) is int:
            yield SizeRecord(path, name, (), value, tuple(Passage(path, side) for side in sides))


def _feature_sizes(path: str, module: nn.Module) -> Iterator[SizeRecord]:
    """``feature_info[i]["num_chs"]`` is what the module ``feature_info[i]["module"]`` gives."""
    entries = vars(module).get("feature_info")
    if not isinstance(entries, (list, tuple)):
        return
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or type(entry.get("num_chs")) is not int:
            continue
        place = _joined(path, str(entry.get("module", "")))
        side = Side.INPUT if entry.get("hook_type") == "forward_pre" else Side.OUTPUT
        keys = (number, "num_chs")
        yield SizeRecord(path, "feature_info", keys, entry["num_chs"], (Passage(place, side),))


def _classifier_sizes(path: str, module: nn.Module) -> Iterator[SizeRecord]:
    """``head_hidden_size`` is what the classifier reads that ``get_classifier`` gives."""
    value = vars(module).get("head_hidden_size")
    get_classifier = getattr(module, "get_classifier", None)
    if type(value) is not int or get_classifier is None:
        return
    classifier = None
    with suppress(Exception):  # whatever a model's own code may raise: then it is no evidence
        classifier = get_classifier()
    for name, child in module.named_modules():
        if child is classifier:
            place = Passage(_joined(path, name), Side.INPUT)
            yield SizeRecord(path, "head_hidden_size", (), value, (place,))


def _joined(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def watch_sizes(ctx: Context, bare: nn.Module, records: Sequence[SizeRecord]) -> None:
    """Note in a run which neurons pass at the places of records, and which records are read.

    Args:
        ctx: the context of the run.
        bare: the bare copy that is run, which is changed for it.
        records: the records.
    """
    modules = dict(bare.named_modules())
    places = {place for record in records for place in record.places}
    for place in places:
        if place.module in modules:
            _WATCHES[place.side](ctx, modules[place.module], place)
    names: dict[str, set[str]] = {}
    for record in records:
        names.setdefault(record.module, set()).add(record.name)
    for path, watched in names.items():
        if path in modules:
            _watch_reads(ctx, modules[path], path, frozenset(watched))


def _watch_input(ctx: Context, module: nn.Module, place: Passage) -> None:
    module.register_forward_pre_hook(lambda _, args: _note(ctx, place, args))


def _watch_output(ctx: Context, module: nn.Module, place: Passage) -> None:
    module.register_forward_hook(lambda _, __, out: _note(ctx, place, out))


def _watch_features(ctx: Context, module: nn.Module, place: Passage) -> None:
    method = getattr(module, "forward_features", None)
    if method is None:
        return

    def watched(*args: Any, **kwargs: Any) -> Any:
        features = method(*args, **kwargs)
        _note(ctx, place, features)
        return features

    vars(module)["forward_features"] = watched


_WATCHES: Mapping[Side, Callable[[Context, nn.Module, Passage], None]] = {
    Side.INPUT: _watch_input,
    Side.OUTPUT: _watch_output,
    Side.FEATURES: _watch_features,
}


def _note(ctx: Context, place: Passage, values: Any) -> None:
    """Note the neurons along single dimensions of the first tensor that passes."""
    with unobserved():
        tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
        for support, labels in ctx.fields(tensors[0]).items() if tensors else ():
            if len(support) == 1:
                ctx.passing.setdefault(place, []).append(flat_labels(labels))


def _watch_reads(ctx: Context, module: nn.Module, path: str, names: frozenset[str]) -> None:
    """Let a module note which of some attributes are read."""
    kind = type(module)

    def read(self: nn.Module, name: str) -> Any:
        if name in names:
            ctx.read_records.add((path, name))
        return kind.__getattribute__(self, name)

    # A subclass of its own, because Python looks this method up on the class.
    body = {"__getattribute__": read, "__module__": kind.__module__}
    with suppress(TypeError):  # a class with another layout in memory cannot be exchanged
        module.__class__ = type(kind.__name__, (kind,), body)
