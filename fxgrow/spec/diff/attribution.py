"""Which widths, layers or modules a change of a node, a module or a tensor follows from."""

import re
from collections.abc import Iterable, Mapping, Sequence

from fxgrow.spec.diff.align import Alignment
from fxgrow.spec.diff.graph_view import node_operands
from fxgrow.spec.diff.growth_history import growth_summary, is_inside, sites_of
from fxgrow.spec.diff.records import CausedBy, LayerDiff, WidthDiff
from fxgrow.spec.models import ArchitectureSpec, NodeSpec, Shape

_NUMBER = re.compile(r"-?\d+")
# Which end of a layer an argument of its constructor speaks of; the others may speak of any.
_ENDS = (("in_", "reads"), ("out_", "writes"))


class Attribution:
    """What is known of the widths and layers that changed, by the names of the second specification."""

    def __init__(
        self,
        a: ArchitectureSpec,
        b: ArchitectureSpec,
        alignment: Alignment,
        widths: Mapping[str, WidthDiff],
        layers: Sequence[LayerDiff],
    ) -> None:
        self.names = alignment.nodes
        self.widths = {name: width for name, width in widths.items() if growth_summary(width)}
        self.layers = layers
        self.sites = sites_of(b.widths)
        self.roles = {
            (s.parameter, s.axis, width.name): s.role for width in b.widths for s in width.sites
        }
        self.owners = {item.name: item.tied_to or item.name for item in b.tensors}
        after = {item.name: item.shape for item in b.tensors}
        news = ((item.shape, alignment.tensors.get(item.name)) for item in a.tensors)
        self.shapes: dict[str, tuple[Shape, Shape]] = {
            new: (old, after[new]) for old, new in news if new is not None
        }
        self.layer_of = {node: layer for layer in layers for node in layer.nodes}

    def of_new(self, name: str) -> CausedBy:
        """A module or tensor that only one side has: the layer or the new module it lies in."""
        layer = next((layer.name for layer in self.layers if is_inside(name, layer.name)), None)
        return (layer,) if layer else (name.rpartition(".")[0] or name,)

    def of_shape(self, tensor: str) -> CausedBy:
        """Widths on every axis whose size differs; nothing if one of the axes has none."""
        old, new = self.shapes[tensor]
        if len(old) != len(new):
            return ()
        found = [self._on(tensor, axis) for axis in range(len(old)) if old[axis] != new[axis]]
        return _union(found) if all(found) else ()

    def _on(self, tensor: str, axis: int) -> CausedBy:
        owner = self.owners[tensor]
        return tuple(width for width in self.sites.get((owner, axis), ()) if width in self.widths)

    def of_attribute(self, module: str, attribute: str, before: str, after: str) -> CausedBy:
        """Widths on the axes of the module's own tensors that grew in the same proportion as every number differs."""
        pairs = _numbers(before, after)
        axes = [
            (tensor, axis, old[axis], new[axis])
            for tensor, (old, new) in self.shapes.items()
            if is_inside(tensor, module) and len(old) == len(new)
            for axis in range(len(old))
            if old[axis] != new[axis]
        ]
        role = next((role for start, role in _ENDS if attribute.startswith(start)), None)
        found = [
            [(tensor, axis) for tensor, axis, x, y in axes if old * y == new * x]
            for old, new in pairs
        ]
        reasons = [self._ending(places, role) for places in found]
        return _union(reasons) if reasons and all(reasons) else ()

    def _ending(self, places: Iterable[tuple[str, int]], role: str | None) -> CausedBy:
        """The widths at the places, those of the role alone if there are any."""
        known = [
            (tensor, axis, width) for tensor, axis in places for width in self._on(tensor, axis)
        ]
        fitting = [
            width
            for tensor, axis, width in known
            if self.roles[self.owners[tensor], axis, width] == role
        ]
        return tuple(dict.fromkeys(fitting or [width for _, _, width in known]))

    def of_numbers(self, before: str, after: str) -> CausedBy:
        """Widths of which every number that differs is the same multiple on both sides."""
        found = [
            tuple(
                name
                for name, width in self.widths.items()
                if width.before
                and width.after
                and old % width.before == 0
                and old * width.after == new * width.before
            )
            for old, new in _numbers(before, after)
        ]
        return _union(found) if found and all(found) else ()

    def of_operands(self, old: NodeSpec, new: NodeSpec) -> CausedBy:
        """The layers and the inserted or removed nodes that lie between the node and what it read before."""
        seen: dict[str, None] = {}
        before = [
            self._through(name, seen)
            for name in (self.names.get(name, name) for name in node_operands(old))
        ]
        after = [self._through(name, seen) for name in node_operands(new)]
        if len(before) != len(after):
            return ()
        news = {*self.names.values()}
        for was, now in zip(before, after, strict=True):
            if was != now:
                fresh = now if now not in news else was if was not in news else None
                if fresh is None:
                    return ()
                seen[fresh] = None
        return tuple(seen)

    def _through(self, name: str, seen: dict[str, None]) -> str:
        """What a layer's output was before the layer; ``seen`` gets the layers on the way."""
        while name in self.layer_of:
            layer = self.layer_of[name]
            seen[layer.name] = None
            name = (
                self.names.get(layer.after, layer.after)
                if layer.change == "removed"
                else layer.after
            )
        return name


def _union(parts: Iterable[Iterable[str]]) -> CausedBy:
    return tuple(dict.fromkeys(name for part in parts for name in part))


def _numbers(before: str, after: str) -> list[tuple[int, int]]:
    """The whole numbers that differ, if nothing but numbers does; else none."""
    if _NUMBER.sub("#", before) != _NUMBER.sub("#", after):
        return []
    pairs = zip(map(int, _NUMBER.findall(before)), map(int, _NUMBER.findall(after)), strict=True)
    return [(old, new) for old, new in pairs if old != new]
