"""Which widths, layers or modules a change of a node, a module or a tensor follows from."""

import re
from collections.abc import Iterable, Mapping, Sequence

from fxgrow.spec.diff.align import Alignment
from fxgrow.spec.diff.graph_view import node_operands
from fxgrow.spec.diff.growth_history import added_neurons, is_inside, sites_of
from fxgrow.spec.diff.records import CausedBy, LayerDiff, WidthDiff
from fxgrow.spec.models import ArchitectureSpec, NodeSpec, Shape

_NUMBER = re.compile(r"-?\d+")
# Prefixes of constructor arguments about one end of a layer, with the role that a width has there.
# Other arguments may be about either end.
_ROLE_OF_PREFIX = {"in_": "reads", "out_": "writes"}


class Attribution:
    """Explains changes by the widths and layers that changed.

    Names are those of the second specification. Every method gives the causes of one change by
    name, or nothing if the change is not explained completely.

    Args:
        a: The first specification.
        b: The second.
        alignment: What they have in common.
        widths: The widths that changed, by name.
        layers: The layers that were inserted or removed.
    """

    def __init__(
        self,
        a: ArchitectureSpec,
        b: ArchitectureSpec,
        alignment: Alignment,
        widths: Mapping[str, WidthDiff],
        layers: Sequence[LayerDiff],
    ) -> None:
        self.new_node_of = alignment.nodes
        self.widths = {name: width for name, width in widths.items() if added_neurons(width)}
        self.layers = layers
        # (tensor, axis) -> the widths there.
        self.sites = sites_of(b.widths)
        self.roles: dict[tuple[str, int, str], str] = {}
        for width in b.widths:
            for site in width.sites:
                self.roles[site.parameter, site.axis, width.name] = site.role
        # Sites are listed for one name of a tensor only, the one that others are tied to.
        self.owners = {item.name: item.tied_to or item.name for item in b.tensors}
        self.shapes = _shapes_before_and_after(a, b, alignment.tensors)
        self.layer_of: dict[str, LayerDiff] = {}
        for layer in layers:
            for node in layer.nodes:
                self.layer_of[node] = layer

    def of_new(self, name: str) -> CausedBy:
        """A module or tensor that only one side has: the layer or new module that contains it."""
        for layer in self.layers:
            if is_inside(name, layer.name):
                return (layer.name,)
        module = name.rpartition(".")[0]
        return (module or name,)

    def of_shape(self, tensor: str) -> CausedBy:
        """Widths on every axis whose size differs; nothing if one of the axes has none."""
        old_shape, new_shape = self.shapes[tensor]
        if len(old_shape) != len(new_shape):
            return ()
        causes: list[CausedBy] = []
        for axis, (old_size, new_size) in enumerate(zip(old_shape, new_shape, strict=True)):
            if old_size != new_size:
                causes.append(self._changed_widths_at(tensor, axis))
        return _all_or_nothing(causes)

    def _changed_widths_at(self, tensor: str, axis: int) -> CausedBy:
        widths = self.sites.get((self.owners[tensor], axis), ())
        return tuple(width for width in widths if width in self.widths)

    def of_attribute(self, module: str, attribute: str, before: str, after: str) -> CausedBy:
        """Widths on axes of the module's own tensors that grew in the proportion of the attribute.

        That has to hold for every number in the attribute that differs.
        """
        role: str | None = None
        for prefix, role_of_prefix in _ROLE_OF_PREFIX.items():
            if attribute.startswith(prefix):
                role = role_of_prefix
        changed_axes = self._changed_axes(module)
        causes: list[CausedBy] = []
        for old, new in _changed_numbers(before, after):
            axes: list[tuple[str, int]] = []
            for tensor, axis, old_size, new_size in changed_axes:
                # old / new == old_size / new_size, in whole numbers.
                if old * new_size == new * old_size:
                    axes.append((tensor, axis))
            causes.append(self._widths_of_role(axes, role))
        return _all_or_nothing(causes)

    def _changed_axes(self, module: str) -> list[tuple[str, int, int, int]]:
        """(tensor, axis, old size, new size) of the module's tensors where the sizes differ."""
        changed: list[tuple[str, int, int, int]] = []
        for tensor, (old_shape, new_shape) in self.shapes.items():
            if not is_inside(tensor, module) or len(old_shape) != len(new_shape):
                continue
            for axis, (old_size, new_size) in enumerate(zip(old_shape, new_shape, strict=True)):
                if old_size != new_size:
                    changed.append((tensor, axis, old_size, new_size))
        return changed

    def _widths_of_role(self, axes: Iterable[tuple[str, int]], role: str | None) -> CausedBy:
        """The changed widths on some axes: those of the role, or all if none has it."""
        widths: list[str] = []
        widths_of_role: list[str] = []
        for tensor, axis in axes:
            for width in self._changed_widths_at(tensor, axis):
                widths.append(width)
                if self.roles[self.owners[tensor], axis, width] == role:
                    widths_of_role.append(width)
        return tuple(dict.fromkeys(widths_of_role or widths))

    def of_numbers(self, before: str, after: str) -> CausedBy:
        """Widths of which every number that differs is the same multiple on both sides."""
        causes: list[CausedBy] = []
        for old, new in _changed_numbers(before, after):
            multiples: list[str] = []
            for name, width in self.widths.items():
                if _is_same_multiple(old, new, width):
                    multiples.append(name)
            causes.append(tuple(multiples))
        return _all_or_nothing(causes)

    def of_operands(self, old: NodeSpec, new: NodeSpec) -> CausedBy:
        """The layers and inserted or removed nodes between a node and what it read before.

        Args:
            old: The node in the first specification.
            new: The same node in the second.

        Returns:
            Their names, or nothing if they do not explain every operand.
        """
        # A dict keeps the order in which causes are found, and each cause once.
        causes: dict[str, None] = {}
        old_sources: list[str] = []
        for name in node_operands(old):
            old_sources.append(self._source(self.new_node_of.get(name, name), causes))
        new_sources = [self._source(name, causes) for name in node_operands(new)]
        if len(old_sources) != len(new_sources):
            return ()
        common_nodes = set(self.new_node_of.values())
        for old_source, new_source in zip(old_sources, new_sources, strict=True):
            if old_source == new_source:
                continue
            if new_source not in common_nodes:
                causes[new_source] = None  # an inserted node
            elif old_source not in common_nodes:
                causes[old_source] = None  # a removed node
            else:
                return ()
        return tuple(causes)

    def _source(self, name: str, causes: dict[str, None]) -> str:
        """The node whose value a node would be if no layer had been inserted or removed.

        The layers on the way are added to ``causes``.
        """
        while name in self.layer_of:
            layer = self.layer_of[name]
            causes[layer.name] = None
            name = layer.after
            if layer.change == "removed":
                # A removed layer is described by names of the first specification.
                name = self.new_node_of.get(name, name)
        return name


def _shapes_before_and_after(
    a: ArchitectureSpec, b: ArchitectureSpec, new_tensor_of: Mapping[str, str]
) -> dict[str, tuple[Shape, Shape]]:
    """New name -> old and new shape, of the tensors that both specifications have."""
    new_shapes = {item.name: item.shape for item in b.tensors}
    shapes: dict[str, tuple[Shape, Shape]] = {}
    for item in a.tensors:
        new_name = new_tensor_of.get(item.name)
        if new_name is not None:
            shapes[new_name] = (item.shape, new_shapes[new_name])
    return shapes


def _is_same_multiple(old: int, new: int, width: WidthDiff) -> bool:
    """Whether ``old`` is as many times the old size of a width as ``new`` is of its new size."""
    if not width.before or not width.after:
        return False
    return old % width.before == 0 and old * width.after == new * width.before


def _all_or_nothing(causes: Sequence[CausedBy]) -> CausedBy:
    """All causes in order, each once; nothing if a part of the change has no cause."""
    union: dict[str, None] = {}
    for names in causes:
        if not names:
            return ()
        union.update(dict.fromkeys(names))
    return tuple(union)


def _changed_numbers(before: str, after: str) -> list[tuple[int, int]]:
    """The whole numbers in two texts that differ; none if anything else differs too."""
    if _NUMBER.sub("#", before) != _NUMBER.sub("#", after):
        return []
    changed: list[tuple[int, int]] = []
    for old, new in zip(_NUMBER.findall(before), _NUMBER.findall(after), strict=True):
        if int(old) != int(new):
            changed.append((int(old), int(new)))
    return changed
