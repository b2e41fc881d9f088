"""The context of a coupling run: rules read from it what is known, and write what they find."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

from fxgrow.coupling.fields import (
    Fields,
    axis_field,
    by_support,
    core_along,
    field_support,
    flat_labels,
    lines_speak_for,
    unobserved,
)
from fxgrow.coupling.keys import AnyAxisKey, AxisKey
from fxgrow.coupling.labels import FIXED, Bools, Ints, Labels, Pin, components, concatenated
from fxgrow.coupling.number_log import NumberLog
from fxgrow.coupling.open_norms import OpenNorms
from fxgrow.coupling.size_numbers import SizeAttributeGuess, SizeLog, Tracked
from fxgrow.coupling.values import (
    Axis,
    Grid,
    Passage,
    Role,
    ShapeEvent,
    Value,
    Visible,
    WeightProduct,
)
from fxgrow.coupling.view_log import ViewLog, ViewShape
from fxgrow.meta import ShapeCache
from fxgrow.user_lines import running_frames, user_line

_VALUE = "_fxgrow_value"
"""The attribute of a tensor that holds its ``Value``."""


OutputShapes = tuple[tuple[int, ...], ...]
RunFunction = Callable[[nn.Module, tuple[Any, ...], "Context"], Any]


@dataclass(frozen=True, eq=False)
class Observed:
    """Something that is run to learn of its neurons, or to test a growth: a model or its graph."""

    model: nn.Module
    example_inputs: tuple[Any, ...]
    run: RunFunction


@dataclass
class Context:
    """What is learned in one coupling run: rules read fields, and write unions, pins and roles.

    Args:
        labels: the labels, their unions and pins.
        axes: the axes of all parameters and buffers.
        roles: what each axis does.
        read: the axes that read neurons in whichever direction their grids grow.
        read_lines: for axes that read a grid along one dimension the labels of the lines there.
        writers: the axes that write neurons, numbered in the order in which they run.
        later: roles that depend on unions still to come: (axis, role, labels it was seen with,
            labels of the lines as in ``read_lines``).
        grids: labeled axes that were seen as grids.
        merged: the numbers of those whose lines became one dimension.
        shape_events: reshapes and splits of labeled dimensions.
        reads: of an fx graph, the labels that each node contracts.
        writes: of an fx graph, the labels that each node makes.
        carried: of an fx graph, all labels in each node's value.
        shapes: of an fx graph, each node's shape and labeled dimensions.
        node_grids: of an fx graph, the labels of each node that lie along several dimensions, as
            arrays with all its dimensions, those without labels of length 1.
        modules: paths of the modules that are running, the innermost last.
        overwritten: numbers that are out of date, by the address of their memory.
        unread: pins that count once a result is read, by the ``id`` of the result.
        graph_node: the fx node that is running.
        operator: the operator that is running.
        numbers: whether values have their numbers, and not their shapes alone (see ``observer``).
        steady: whether no operator so far moved neurons among each other, so that copies cannot
            have been mixed.
        passes: the shapes of the outputs, per subject and mode in which it ran (True: training).
        packages: the packages that the model is written in.
        normalized: the directions of weights under weight normalization.
        is_trial: whether this is a run of a grown model, in which labels are known.
        passing: the labels along single dimensions of what passed at watched places.
        read_records: (path, name) of watched attributes that code has read.
        moving: in a trial, for each label whether it is a copy of a neuron that grows.
        steps: how many operators have run.
        failure: what the last operator that failed raised, and the labels of its tensors.
        follows_sizes: whether it is recorded what the model's code does with sizes.
        size_log: what it does with them.
        followed: attributes of modules that are sizes as well.
        size_arguments: the numbers that come from sizes, of the function that is running.
        number_log: the numbers that the operators of the current run compute with.
        number_logs: those of every subject's run in eval mode.
        view_log: the views of the current run.
        views: those of every subject's run in each mode, before the model has grown.
        weight_products: products that sum over an axis of two weights.
        names: the names of the bare copy's parameters, by the ``id`` of the parameter.
        reached: the names of the parameters and buffers that some operator took.
        visible: what modules got, and what they gave to those that called them.
        entered: the paths of the modules that ran.
        open_norms: what a run with open norms records; None: norms are closed.
        shape_cache: what operators gave on the meta device, in this run and in those of its trials.
    """

    labels: Labels = field(default_factory=Labels)
    axes: list[Axis] = field(default_factory=list)
    roles: dict[AnyAxisKey, set[Role]] = field(default_factory=dict)
    read: set[AnyAxisKey] = field(default_factory=set)
    read_lines: dict[AnyAxisKey, list[Ints]] = field(default_factory=dict)
    writers: dict[AnyAxisKey, int] = field(default_factory=dict)
    later: list[tuple[Axis, Role, list[Ints], Ints | None]] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    merged: list[int] = field(default_factory=list)
    shape_events: list[ShapeEvent] = field(default_factory=list)
    reads: dict[str, list[Ints]] = field(default_factory=dict)
    writes: dict[str, list[Ints]] = field(default_factory=dict)
    carried: dict[str, Ints] = field(default_factory=dict)
    shapes: dict[str, tuple[tuple[int, ...], frozenset[int]]] = field(default_factory=dict)
    node_grids: dict[str, list[Ints]] = field(default_factory=dict)
    modules: list[str] = field(default_factory=lambda: [""])
    overwritten: dict[int, Tensor] = field(default_factory=dict)
    unread: dict[int, tuple[Tensor, list[Pin]]] = field(default_factory=dict)
    graph_node: str = ""
    operator: str = ""
    numbers: bool = False
    steady: bool = True
    passes: dict[Observed, dict[bool, OutputShapes]] = field(default_factory=dict)
    packages: frozenset[str] = frozenset()
    normalized: frozenset[str] = frozenset()
    is_trial: bool = False
    passing: dict[Passage, list[Ints]] = field(default_factory=dict)
    read_records: set[tuple[str, str]] = field(default_factory=set)
    moving: Bools = field(default_factory=lambda: np.zeros(0, bool))
    steps: int = 0
    failure: tuple[Exception, Ints] | None = None
    follows_sizes: bool = False
    size_log: SizeLog = field(default_factory=SizeLog)
    followed: tuple[SizeAttributeGuess, ...] = ()
    size_arguments: tuple[Tracked, ...] = ()
    number_log: NumberLog = field(default_factory=NumberLog)
    number_logs: dict[Observed, NumberLog] = field(default_factory=dict)
    view_log: ViewLog = field(default_factory=ViewLog)
    views: dict[tuple[Observed, bool], list[tuple[ViewShape, ViewShape]]] = field(
        default_factory=dict
    )
    weight_products: list[WeightProduct] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    reached: set[str] = field(default_factory=set)
    visible: list[Visible] = field(default_factory=list)
    entered: set[str] = field(default_factory=set)
    open_norms: OpenNorms | None = None
    shape_cache: ShapeCache = field(default_factory=ShapeCache)

    def grows(self, labels: Ints) -> bool:
        """Whether this is a trial, and neurons that grow in it are among these labels."""
        known = labels[labels < len(self.moving)]
        return bool(self.moving[known].any())

    def for_trial(self) -> "Context":
        """The context of a run of the grown model."""
        return Context(
            numbers=self.numbers,
            packages=self.packages,
            normalized=self.normalized,
            is_trial=True,
            views=self.views,
            shape_cache=self.shape_cache,
        )

    def modes(self, subject: Observed) -> Mapping[bool, OutputShapes]:
        """The modes in which to run a subject again, and the output shapes that it should have.

        One that was not observed itself should give in eval mode what the others gave for the same
        example.
        """
        if self.passes.get(subject):
            return self.passes[subject]
        for other, shapes in self.passes.items():
            if False in shapes and other.example_inputs is subject.example_inputs:
                return {False: shapes[False]}
        return {False: ()}  # nothing ran: no shape is known

    def value(self, tensor: Any) -> Value:
        """What is known of a tensor (nothing, for one that no rule has written to)."""
        # Kept on the tensor itself, so that it lives and dies with it.
        value = getattr(tensor, _VALUE, None)
        return value if isinstance(value, Value) else Value()

    def fields(self, tensor: Any) -> Fields:
        """The label fields of a tensor."""
        return self.value(tensor).fields

    def note_overwritten(self, tensor: Tensor) -> None:
        """Note that numbers that are not known are written into a tensor's memory."""
        real = self.value(tensor).real
        if real is not None:
            # It is held as well, so that its address is not given to another tensor.
            self.overwritten[real.untyped_storage().data_ptr()] = real

    def is_uniform(self, tensor: Tensor, dims: Iterable[int]) -> bool:
        """Whether a tensor without neurons repeats one number along dimensions.

        It could be made longer there (``torch.zeros(n, h.shape[1])``): a trial growth shows whether
        it is.

        Args:
            tensor: a tensor in the run.
            dims: the dimensions.

        Returns:
            False also where its numbers are not known.
        """
        value = self.value(tensor)
        # What lives elsewhere than the run does is a constant.
        real = value.real if tensor.is_meta else tensor
        if (value.fields and not value.adopted) or real is None or not real.numel():
            return False
        if real.untyped_storage().data_ptr() in self.overwritten:
            return False
        with _disable_current_modes():
            first = real
            for dim in dims:
                first = first.narrow(dim, 0, 1)
            return bool((real == first).all())

    def set_value(self, tensor: Tensor, value: Value) -> None:
        """Write down what is known of a tensor."""
        setattr(tensor, _VALUE, value)

    def label(self, tensor: Tensor, axes: tuple[Axis, ...]) -> None:
        """Give every axis of a parameter its labels."""
        fields: Fields = {}
        for axis in axes:
            fields[axis.axis,] = axis_field(axis.labels, axis.axis, tensor.shape)
        self.set_value(tensor, Value(fields, axes))

    def set_fields(
        self, tensor: Tensor, fields: Iterable[Tensor], axes: tuple[Axis, ...] = ()
    ) -> None:
        """Write down what an operator's result holds.

        Args:
            tensor: the result.
            fields: its label fields; of several with one support the first counts.
            axes: the axes of the parameters that it is made of, if it is made of nothing else.
        """
        self.set_value(tensor, Value(by_support(fields), axes, self.value(tensor).real))

    def unite(self, left: Tensor, right: Tensor) -> None:
        """Unite two fields of one support, element by element."""
        if left is right:
            return
        # One element per group of equal ones suffices: elements along the joint support.
        dims = tuple(sorted({*field_support(left), *field_support(right)}))
        cores = core_along(left, dims), core_along(right, dims)
        self.labels.unite(cores[0].reshape(-1).numpy(), cores[1].reshape(-1).numpy())

    def pin(self, labels: Tensor | Ints, code: str, reason: str) -> None:
        """Refuse neurons, because of the operator that is running.

        Args:
            labels: a field or an array of labels.
            code: the code of the refusal, as in ``docs/refusals.md``.
            reason: the end of a sentence that begins with the width.
        """
        array = labels if isinstance(labels, np.ndarray) else flat_labels(labels)
        # Where the frame of the user's line is looked for costs time: not for nobody's labels.
        if array.size and (array != FIXED).any():
            self.labels.pin(array, code, reason, self.node())

    def pin_when_read(
        self, results: Iterable[Tensor], labels: Tensor, code: str, reason: str
    ) -> None:
        """Refuse neurons as soon as something reads a result of the operator that is running.

        Args:
            results: the results of the operator.
            labels: the field of the neurons.
            code: the code of the refusal.
            reason: its reason, as for ``pin``.
        """
        pin = Pin(flat_labels(labels), code, reason, self.node())
        for result in results:
            # The result is held as well, so that its id is not given to another tensor.
            _, pins = self.unread.setdefault(id(result), (result, []))
            pins.append(pin)

    def mark_read(self, tensor: Any) -> None:
        """Note that a tensor is read, or is an output of the model."""
        _, pins = self.unread.pop(id(tensor), (tensor, []))
        for pin in pins:
            self.labels.pin(pin.labels, pin.code, pin.reason, pin.node)

    def mark_operands(self, tensors: Iterable[Tensor]) -> None:
        """Note what an operator takes: values that are read, and parameters and buffers."""
        for tensor in tensors:
            self.mark_read(tensor)
            name = self.names.get(id(tensor))
            if name is not None:
                self.reached.add(name)

    def pin_fields(self, fields: Iterable[Tensor], code: str, reason: str) -> None:
        """Refuse the neurons of several fields, as ``pin`` does those of one."""
        for labels in fields:
            self.pin(labels, code, reason)

    def record_role(self, tensor: Any, role: Role, dim: int | None = None) -> None:
        """Record what a value that is made of parameters does.

        Args:
            tensor: the value.
            role: its role.
            dim: the dimension along which it plays the role (None: all of them).
        """
        value = self.value(tensor)
        seen, is_grid = [], False
        for support, labels in value.fields.items():
            if dim is None or dim in support:
                seen.append(flat_labels(labels))
                is_grid |= dim is not None and lines_speak_for(value.fields, support)
        lines = flat_labels(value.fields[dim,]) if is_grid and dim is not None else None
        is_joint = len({axis.parameter for axis in value.axes}) > 1
        learned = any(not axis.constant for axis in value.axes)
        for axis in value.axes:
            # A mask or nonlinear function cannot share out a copy's weight as a reader must.
            is_mask = axis.constant and learned
            carries = (role is Role.READS and not axis.scales) or (role is Role.WRITES and is_mask)
            axis_role = Role.CARRIES if carries else role
            if _holds_label_of(axis, seen):
                self._add_role(axis, axis_role, lines)
            elif axis.labels.size and (is_joint or self.merged):
                # A product or sum of parameters shows the labels of one of them only, axes that
                # were merged those of the cells of their grid.
                self.later.append((axis, axis_role, seen, lines))
        if role is Role.READS and not _shareable(value.axes):
            for array in seen:
                self.pin(
                    array,
                    "nonlinear",
                    "read through a nonlinear function of a weight, which copies cannot share",
                )

    def _add_role(self, axis: Axis, role: Role, lines: Ints | None) -> None:
        """Add a role; of a grid along one dimension ``lines`` are the labels of the lines there."""
        self.roles.setdefault(axis.key, set()).add(role)
        if role is Role.WRITES:
            self.writers.setdefault(axis.key, len(self.writers))
        if role is Role.READS and lines is None:
            self.read.add(axis.key)
        elif role is Role.READS and lines is not None:
            self.read_lines.setdefault(axis.key, []).append(lines)

    def record_visible(self, values: Any) -> None:
        """Record what the innermost module gets, from its caller or from a part of it."""
        # Without any operator on them, which would be observed.
        for leaf in [values] if isinstance(values, Tensor) else tree_leaves(values):
            fields = self.fields(leaf)
            if fields:
                self.visible.append(Visible(self.modules[-1], fields))

    def record_weight_product(
        self, sides: tuple[Tensor, Tensor], contracted: Sequence[Tensor]
    ) -> None:
        """Record a product of two weights: right only if copies share the weight of one of them.

        Args:
            sides: the weights.
            contracted: the fields that are summed over.
        """
        arrays = [flat_labels(labels) for labels in contracted]
        if not arrays:
            return
        left, right = (
            tuple(axis for axis in self.value(side).axes if _holds_label_of(axis, arrays))
            for side in sides
        )
        labels = np.concatenate(arrays)
        reason = "two weights are multiplied and summed over it, and copies share that of %s"
        pin = Pin(labels[labels != FIXED], "weight-product", reason, self.node())
        self.weight_products.append(WeightProduct(left, right, pin))

    def resolve_weight_products(self) -> None:
        """Refuse what a product of two weights sums over, unless one side alone reads it."""
        for product in self.weight_products:
            left, right = map(self._is_reader, (product.left, product.right))
            if left == right:
                reason = product.pin.reason % ("both" if left else "neither")
                self.labels.pins.append(replace(product.pin, reason=reason))
        self.weight_products.clear()

    def _is_reader(self, axes: Sequence[Axis]) -> bool:
        return any(Role.READS in self.roles.get(axis.key, ()) for axis in axes)

    def resolve_roles(self) -> None:
        """Find the roles of parameters whose labels were united with others before their use."""
        if not self.later:
            return
        # By now the labels that were seen are united with those of the axis, if they ever are.
        classes = components(self.labels.count, self.labels.pairs)
        cells = {number: np.unique(classes[self.grids[number].joint]) for number in self.merged}
        for axis, role, seen, lines in self.later:
            for number, of_grid in cells.items():
                if any(np.isin(classes[array], of_grid).any() for array in seen):
                    seen = [*seen, *self.grids[number].factors]
            if any(np.isin(classes[array], classes[axis.labels]).any() for array in seen):
                self._add_role(axis, role, lines)
        self.later.clear()

    def record_use(self, uses: dict[str, list[Ints]], labels: Iterable[Tensor]) -> None:
        """Record which labels the current fx node contracts or makes.

        Args:
            uses: ``reads`` or ``writes`` of this context.
            labels: the fields.
        """
        if self.graph_node:
            arrays = uses.setdefault(self.graph_node, [])
            for labels_of_field in labels:
                arrays.append(flat_labels(labels_of_field))

    def record_reshape(self, labels: Iterable[Tensor]) -> None:
        """Record that the current module reshapes or splits these labels."""
        line = user_line(running_frames(), self.packages)
        for labels_of_field in labels:
            event = ShapeEvent(self.modules[-1], flat_labels(labels_of_field), line)
            self.shape_events.append(event)

    def node(self) -> str:
        """``module.path: operator (file:line)`` of the running operator.

        The line is the innermost one of the user's own code; it is left out if there is none.
        """
        line = user_line(running_frames(), self.packages)
        where = f" ({line})" if line else ""
        return f"{self.modules[-1] or 'model'}: {self.operator}{where}"

    def note_failure(self, error: Exception, tensors: Iterable[Tensor]) -> None:
        """Note the labels of the tensors that an operator could not work with.

        Args:
            error: what the operator raised; the function around it, which it comes through next,
                knows no better which tensors those are.
            tensors: the arguments of the operator.
        """
        if self.failure is not None and self.failure[0] is error:
            return
        labels = []
        with unobserved():
            for tensor in tensors:
                for labels_of_field in self.fields(tensor).values():
                    labels.append(flat_labels(labels_of_field))
        self.failure = error, np.unique(concatenated(labels))


def _holds_label_of(axis: Axis, seen: Sequence[Ints]) -> bool:
    """Whether some of these labels are of this axis, whose own are consecutive numbers."""
    if not axis.labels.size:
        return False
    low, high = axis.labels[0], axis.labels[-1]  # cheaper than to look each label up
    return any(((array >= low) & (array <= high)).any() for array in seen)


def _shareable(axes: Sequence[Axis]) -> bool:
    """Whether halving parameters halves a value made of them.

    That is so if some of them scale it, and none of these enters in another way too.
    """
    scaling: set[AxisKey] = set()
    others: set[AxisKey] = set()
    for axis in axes:
        (scaling if axis.scales else others).add(axis.key)
    return not axes or (bool(scaling) and scaling.isdisjoint(others))


def joint_axes(ctx: Context, operands: Sequence[Tensor], role: Role) -> tuple[Axis, ...]:
    """The parameters that a result is made of.

    Args:
        ctx: the context of the run.
        operands: the operands of the operator.
        role: what parameters do that meet an activation here.

    Returns:
        The axes of all operands if all are made of parameters only; else none, and the operands
        that are play ``role``.
    """
    axes_of_operands = [ctx.value(operand).axes for operand in operands]
    if all(axes_of_operands):
        joint: list[Axis] = []
        for axes in axes_of_operands:
            joint += axes
        return tuple(joint)
    for operand in operands:
        ctx.record_role(operand, role)
    return ()
