"""Which tensors of a mixture hold one entry per expert, and which fields count experts?

No field is known by name. A model that its config builds with m times as many experts has tensors
that are m times as long along their first axis, some of them stacks of matrices, and differs in
nothing else. How many experts a token is sent to changes no shape; the field is the one with which
the model of copied experts computes the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fxgrow.surgery.config import (
    ConfigUpdate,
    ConfiguredModule,
    config_paths,
    model_outputs,
)
from fxgrow.surgery.config_search import (
    FieldPath,
    ParameterShapes,
    build_from_config,
    config_leaves,
    parameter_shapes,
)

_STACK = 3
"""Axes of a tensor that holds a matrix per expert."""


@dataclass(frozen=True)
class ExpertTensors:
    """The tensors of all mixtures of a model.

    Args:
        path: of the module whose config counts the experts.
        field: the number of experts in that config.
        size: how many there are.
        names: the tensors, each with one entry per expert along its first axis.
    """

    path: str
    field: FieldPath
    size: int
    names: tuple[str, ...]


def expert_tensors(model: nn.Module, times: int) -> Iterator[ExpertTensors]:
    """The tensors that may be those of experts.

    Args:
        model: holds modules with a config.
        times: how many copies of each expert there are to be.
    """
    for path in config_paths(model):
        module: Any = model.get_submodule(path)
        shapes = parameter_shapes(module)
        for field, value in config_leaves(module.config):
            # Exactly int: True is a number, too.
            if type(value) is not int or value < 1:
                continue
            built = build_from_config(type(module), module.config, {field: times * value})
            found = () if built is None else _multiplied(shapes, parameter_shapes(built), times)
            if any(len(shapes[name]) >= _STACK for name in found):
                prefix = f"{path}." if path else ""
                yield ExpertTensors(path, field, value, tuple(f"{prefix}{name}" for name in found))


def _multiplied(before: ParameterShapes, after: ParameterShapes, times: int) -> tuple[str, ...]:
    """The tensors that are longer along their first axis; none if anything else differs."""
    if before.keys() != after.keys():
        return ()
    found = []
    for name, shape in before.items():
        if after[name] == shape:
            continue
        if after[name] != (times * shape[0], *shape[1:]):
            return ()
        found.append(name)
    return tuple(found)


def update_experts(
    model: nn.Module,
    experts: ExpertTensors,
    times: int,
    example_inputs: tuple[Any, ...],
    expected: Sequence[Tensor],
) -> ConfigUpdate | None:
    """Set the fields that count experts, of a model whose tensors have grown.

    Args:
        model: the model with ``times`` copies of each expert.
        experts: its tensors.
        times: how many copies.
        example_inputs: positional arguments of the model.
        expected: the tensors that it gave before.

    Returns:
        The new fields; None if with none of them the model computes the same.
    """
    configured = _Mixture(model, experts.path, {}, _coarse_outputs)
    coarse = [tensor.float() for tensor in expected]
    changes = configured.found(experts, times, example_inputs, coarse)
    if changes is None:
        return None
    prefix = f"{experts.path}.config" if experts.path else "config"
    fields = {}
    for path, value in changes.items():
        fields[".".join(map(str, (prefix, *path)))] = value
    return ConfigUpdate(fields)


def _coarse_outputs(module: nn.Module, example_inputs: tuple[Any, ...]) -> list[Tensor]:
    """What a model gives, in the digits in which routers compute in a model of any type."""
    return [tensor.float() for tensor in model_outputs(module, example_inputs)]


class _Mixture(ConfiguredModule):
    """The module at a path, whose config counts experts."""

    def found(
        self,
        experts: ExpertTensors,
        times: int,
        example_inputs: tuple[Any, ...],
        expected: Sequence[Tensor],
    ) -> Mapping[FieldPath, Any] | None:
        """The first fields with which the model computes the same, which it then has."""
        config = self.module.config
        reference = build_from_config(type(self.module), config)
        for changes in self._assignments(experts, times):
            built = build_from_config(type(self.module), config, changes)
            if built is None or parameter_shapes(built) != self.after:
                continue
            is_same = self.computes_the_same(changes, expected, example_inputs)
            if reference is not None and is_same and self.can_load(changes):
                self._apply(changes, reference)
                return changes
        return None

    def _assignments(self, experts: ExpertTensors, times: int) -> Iterator[dict[FieldPath, Any]]:
        number = {experts.field: times * experts.size}
        # A mixture of all experts sends a token to no fixed number of them.
        yield number
        for field, value in config_leaves(self.module.config):
            # No token can be sent to more experts than there are.
            if type(value) is int and 1 <= value <= experts.size and field != experts.field:
                yield {**number, field: times * value}
