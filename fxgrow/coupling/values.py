"""What coupling knows about a tensor while the model runs, and the context in which rules write it down."""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fxgrow.coupling.fields import (
    Fields,
    axis_field,
    by_support,
    field_core,
    field_support,
    flat_labels,
    place_field,
)
from fxgrow.coupling.labels import FIXED, Ints, Labels, Pin, components

_VALUE = "_fxgrow_value"
_LIBRARIES = tuple(
    f"{Path(module.__file__ or '').parent}{os.sep}" for module in (torch, sys.modules["fxgrow"])
)


class Role(StrEnum):
    """What an axis of a parameter does to the neurons along it."""

    WRITES = "writes"
    CARRIES = "carries"
    READS = "reads"


@dataclass(frozen=True)
class Axis:
    """One axis of one parameter or buffer; ``labels[i]`` is the label of index i.

    ``scales``: halving the parameter halves the value that is made of it (not so for a mask or a nonlinear function).
    ``constant``: it is a buffer, which is not learnt.
    """

    parameter: str
    axis: int
    labels: Ints
    scales: bool = True
    constant: bool = False


@dataclass
class Value:
    """``axes`` is non-empty while the value is parameters only; ``real`` holds the numbers of small integer values."""

    fields: Fields = field(default_factory=dict)
    axes: tuple[Axis, ...] = ()
    real: Tensor | None = None


@dataclass(frozen=True)
class Grid:
    """One labelled axis seen as a grid: ``joint[i, j, ...]`` is cell (i, j, ...), ``factors[d][i]`` is line i along d.

    A grid grows along one of its dimensions d only: then all cells of line i along d are one neuron, the one that
    ``factors[d][i]`` names, and its other dimensions are fixed.
    """

    joint: Ints
    factors: tuple[Ints, ...]
    node: str
    module: str


@dataclass(frozen=True)
class ShapeEvent:
    """A reshape or split of labelled dimensions inside ``module``: what a wrong size there would be blamed on."""

    module: str
    labels: Ints


OutputShapes = tuple[tuple[int, ...], ...]
RunFunction = Callable[[nn.Module, tuple[Any, ...], "Context"], Any]


@dataclass(frozen=True, eq=False)
class Observed:
    """Something that is run to learn of its neurons, or to see whether it can grow: a model or its graph."""

    model: nn.Module
    example_inputs: tuple[Any, ...]
    run: RunFunction


@dataclass
class Context:
    """The notebook of one coupling run: rules read fields from it and write unions, pins, roles and grids to it.

    ``writers``: the axes that write neurons, numbered as they run. ``numbers``: whether values have their numbers, and
    not their shapes alone (see ``observer``). ``steady``: no operator so far moved neurons among each other, so copies
    cannot have been mixed. ``passes``: the shapes of the outputs per subject and mode in which it ran (True: training).
    """

    labels: Labels = field(default_factory=Labels)
    axes: list[Axis] = field(default_factory=list)
    roles: dict[tuple[str, int], set[Role]] = field(default_factory=dict)
    writers: dict[tuple[str, int], int] = field(default_factory=dict)
    later: list[tuple[Axis, Role, list[Ints]]] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    shape_events: list[ShapeEvent] = field(default_factory=list)
    reads: dict[str, list[Ints]] = field(default_factory=dict)
    writes: dict[str, list[Ints]] = field(default_factory=dict)
    carried: dict[str, Ints] = field(default_factory=dict)
    shapes: dict[str, tuple[tuple[int, ...], frozenset[int]]] = field(default_factory=dict)
    modules: list[str] = field(default_factory=lambda: [""])
    unread: dict[int, tuple[Tensor, list[Pin]]] = field(default_factory=dict)
    graph_node: str = ""
    operator: str = ""
    numbers: bool = False
    steady: bool = True
    passes: dict[Observed, dict[bool, OutputShapes]] = field(default_factory=dict)

    def modes(self, subject: Observed) -> dict[bool, OutputShapes]:
        """The modes in which a subject is to be run again, and the output shapes that it then should have.

        One that was not observed itself gives in eval mode what the others gave.
        """
        eval_shapes = [passes[False] for passes in self.passes.values() if False in passes]
        return self.passes.get(subject) or {False: next(iter(eval_shapes), ())}

    def value(self, tensor: Any) -> Value:
        """What is known of a tensor (nothing, for one that no rule has written to)."""
        found = getattr(tensor, _VALUE, None)
        return found if isinstance(found, Value) else Value()

    def fields(self, tensor: Any) -> Fields:
        """The label fields of a tensor."""
        return self.value(tensor).fields

    def set_value(self, tensor: Tensor, value: Value) -> None:
        """Write down what is known of a tensor."""
        setattr(tensor, _VALUE, value)

    def label(self, tensor: Tensor, axes: tuple[Axis, ...]) -> None:
        """Give every axis of a parameter its labels."""
        self.set_value(
            tensor,
            Value({(a.axis,): axis_field(a.labels, a.axis, tensor.shape) for a in axes}, axes),
        )

    def set_fields(
        self, tensor: Tensor, fields: Iterable[Tensor], axes: tuple[Axis, ...] = ()
    ) -> None:
        """Write down the fields (and, for parameters only, the axes) of an operator's result."""
        self.set_value(tensor, Value(by_support(fields), axes, self.value(tensor).real))

    def unite(self, left: Tensor, right: Tensor) -> None:
        """Unite two fields of one support, element by element."""
        if left is right or not left.numel():
            return
        dims = sorted(set(field_support(left)) | set(field_support(right)))
        index = tuple(slice(None) if dim in dims else 0 for dim in range(left.dim()))
        self.labels.unite(left[index].reshape(-1).numpy(), right[index].reshape(-1).numpy())

    def pin(self, labels: Tensor | Ints, code: str, reason: str) -> None:
        """Refuse these neurons, because of the operator that is running."""
        array = labels if isinstance(labels, np.ndarray) else flat_labels(labels)
        if array.size and (array != FIXED).any():
            self.labels.pin(array, code, reason, self.node())

    def pin_when_read(
        self, results: Iterable[Tensor], labels: Tensor, code: str, reason: str
    ) -> None:
        """Refuse these neurons as soon as something reads one of the results of the operator that is running."""
        pin = Pin(flat_labels(labels), code, reason, self.node())
        for result in results:
            self.unread.setdefault(id(result), (result, []))[1].append(pin)

    def mark_read(self, tensor: Any) -> None:
        """A tensor is read, or is an output of the model."""
        for pin in self.unread.pop(id(tensor), (tensor, []))[1]:
            self.labels.pin(pin.labels, pin.code, pin.reason, pin.node)

    def pin_fields(self, fields: Iterable[Tensor], code: str, reason: str) -> None:
        """Refuse the neurons of several fields."""
        for labels in fields:
            self.pin(labels, code, reason)

    def record_role(self, tensor: Any, role: Role, dim: int | None = None) -> None:
        """Record that a value made of parameters plays ``role`` (along ``dim``, or along all of its dimensions)."""
        value = self.value(tensor)
        seen = [
            flat_labels(labels) for key, labels in value.fields.items() if dim is None or dim in key
        ]
        several = len({axis.parameter for axis in value.axes}) > 1
        for axis in value.axes:
            if not axis.labels.size:
                continue
            low, high = axis.labels[0], axis.labels[-1]
            mine = Role.CARRIES if role is Role.READS and not axis.scales else role
            if any(((array >= low) & (array <= high)).any() for array in seen):
                self._cast(axis, mine)
            elif several:  # a product or sum of parameters shows the labels of one of them
                self.later.append((axis, mine, seen))
        if role is Role.READS and not _shareable(value.axes):
            for array in seen:
                self.pin(
                    array,
                    "nonlinear",
                    "read through a nonlinear function of a weight, which copies cannot share",
                )

    def _cast(self, axis: Axis, role: Role) -> None:
        key = (axis.parameter, axis.axis)
        self.roles.setdefault(key, set()).add(role)
        if role is Role.WRITES:
            self.writers.setdefault(key, len(self.writers))

    def resolve_roles(self) -> None:
        """Find the roles of parameters whose labels were united with those of another one before they were used."""
        if self.later:
            classes = components(self.labels.count, self.labels.pairs)
            for axis, role, seen in self.later:
                if any(np.isin(classes[array], classes[axis.labels]).any() for array in seen):
                    self._cast(axis, role)
            self.later.clear()

    def record_use(self, book: dict[str, list[Ints]], labels: Iterable[Tensor]) -> None:
        """Remember which labels the current fx node contracts (``reads``) or makes (``writes``)."""
        if self.graph_node:
            book.setdefault(self.graph_node, []).extend(flat_labels(one) for one in labels)

    def record_reshape(self, labels: Iterable[Tensor]) -> None:
        """Remember that the current module reshapes or splits these labels."""
        self.shape_events.extend(ShapeEvent(self.modules[-1], flat_labels(one)) for one in labels)

    def node(self) -> str:
        """``module.path: operator (file:line)`` of the running operator, the user's own line if there is one."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename.startswith((*_LIBRARIES, "<")):
            frame = frame.f_back
        where = (
            f" ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})"
            if frame is not None
            else ""
        )
        return f"{self.modules[-1] or 'model'}: {self.operator}{where}"


def placed_fields(fields: Fields, dims: Sequence[int | None], shape: Sequence[int]) -> list[Tensor]:
    """The fields of a value seen in another one (``place``); those that lose a dimension are left out."""
    return [
        moved
        for labels in fields.values()
        if (moved := place_field(labels, dims, shape)) is not None
    ]


def _shareable(axes: Sequence[Axis]) -> bool:
    """Whether halving parameters halves a value made of them: some scale it, and none of these in other ways too."""
    scaling, others = (
        {axis.parameter for axis in axes if axis.scales is scales} for scales in (True, False)
    )
    return not axes or (bool(scaling) and not scaling & others)


def joint_axes(ctx: Context, operands: Sequence[Tensor], role: Role) -> tuple[Axis, ...]:
    """The axes of a value made of these operands if all are parameters; else the parameters play ``role``."""
    axes = [ctx.value(operand).axes for operand in operands]
    if all(axes):
        return tuple(axis for found in axes for axis in found)
    for operand in operands:
        ctx.record_role(operand, role)
    return ()


def line(labels: Tensor) -> Ints:
    """A one-dimensional field as an array."""
    array: Ints = field_core(labels).reshape(-1).numpy()
    return array
