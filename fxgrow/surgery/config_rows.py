"""Keep a Hugging Face style ``config`` in step with rows: of words, and of classes.

What else is as long as a vocabulary is read off the model that the config would build with more
words. Classes are counted by tables of their labels: ``id2label`` numbers as many as there are, and
``label2id`` gives these numbers.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from fxgrow.surgery.config import (
    FOREIGN,
    ConfigUpdate,
    ConfiguredModule,
    config_paths,
)
from fxgrow.surgery.config_search import (
    FieldPath,
    ParameterShapes,
    build_from_config,
    config_leaves,
    parameter_shapes,
)

_UNLABELLED = "it numbers no labels of as many classes"


def axes_by_config(model: nn.Module, weight: str, size: int, more: int) -> dict[str, int]:
    """The tensors that get longer with a table of words, by what a config says.

    Args:
        model: holds the table.
        weight: the name of its parameter.
        size: how many words it has.
        more: how many it gets.

    Returns:
        By the name of each tensor the axis along which the words lie; empty if no config tells.
    """
    for path in config_paths(model):
        prefix = f"{path}." if path else ""
        module: Any = model.get_submodule(path)
        shapes = parameter_shapes(module)
        for field, value in config_leaves(module.config):
            # Exactly int: True is a number, too.
            if type(value) is not int or value != size or not weight.startswith(prefix):
                continue
            built = build_from_config(type(module), module.config, {field: size + more})
            axes = {} if built is None else _longer(shapes, parameter_shapes(built), size, more)
            if weight.removeprefix(prefix) in axes:
                return {f"{prefix}{name}": axis for name, axis in axes.items()}
    return {}


def _longer(
    before: ParameterShapes, after: ParameterShapes, size: int, more: int
) -> dict[str, int]:
    """The axes that are longer by so many entries; none if anything else differs."""
    if before.keys() != after.keys():
        return {}
    axes = {}
    for name, shape in before.items():
        for axis, (old, new) in enumerate(zip(shape, after[name], strict=False)):
            if old == size and new == size + more:
                axes[name] = axis
            elif old != new:
                return {}
    return axes


def update_labels(
    module: nn.Module, before: ParameterShapes, old: int, new: int
) -> ConfigUpdate | None:
    """Number more labels in every config inside a model whose last layer got more classes.

    Args:
        module: the model, whose last layer has its new rows.
        before: the shapes that it had.
        old, new: the numbers of classes.

    Returns:
        What became of the configs; None if there is none, or none of a module with the layer.
    """
    fields: dict[str, Any] = {}
    notes, is_described = [], False
    for path in config_paths(module):
        configured = _Labelled(module, path, before)
        # The layer lies outside of the module that this config describes.
        if configured.after == configured.before:
            continue
        is_described = True
        changes = configured.relabel(old, new)
        if not changes:
            kind = type(configured.module).__name__
            notes.append(f"the config of {kind} is unchanged: {configured.why}")
        prefix = f"{path}.config" if path else "config"
        for field, value in changes.items():
            fields[".".join(map(str, (prefix, *field)))] = value
    return ConfigUpdate(fields, "; ".join(notes)) if is_described else None


class _Labelled(ConfiguredModule):
    """The module at a path, whose config numbers labels."""

    why = ""

    def relabel(self, old: int, new: int) -> Mapping[FieldPath, Any]:
        """Give new classes labels, ``LABEL_4`` say; nothing changes if the config has none."""
        config = self.module.config
        reference = build_from_config(type(self.module), config)
        if reference is None or parameter_shapes(reference) != self.before:
            self.why = FOREIGN
            return {}
        changes = _longer_tables(vars(config), old, new)
        built = build_from_config(type(self.module), config, changes) if changes else None
        if built is None or parameter_shapes(built) != self.after or not self.can_load(changes):
            self.why = _UNLABELLED
            return {}
        self._apply(changes, reference)
        return changes


def _longer_tables(attributes: Mapping[str, Any], old: int, new: int) -> dict[FieldPath, Any]:
    """The tables that number as many labels as there were classes, with more labels."""
    numbers = list(range(old))
    changes: dict[FieldPath, Any] = {}
    for name, table in attributes.items():
        if not isinstance(table, Mapping) or len(table) != old:
            continue
        labels = {number: f"LABEL_{number}" for number in range(old, new)}
        if sorted(table, key=str) == sorted(numbers, key=str):
            changes[(name,)] = {**table, **labels}
        elif sorted(table.values(), key=str) == sorted(numbers, key=str):
            changes[(name,)] = {**table, **{label: number for number, label in labels.items()}}
    return changes
