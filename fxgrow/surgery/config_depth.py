"""Keep the ``config`` of a Hugging Face style model in step with lists of blocks that got longer.

No field is known by name. A number that equals the old length of a list may be its new length, and
a list of as many entries as there were blocks (``layer_types``) gets, for each block, the entry of
the block that it is a copy of. The assignment is taken whose model has the parameters of the grown
one, can be written and read again, and, where the growth keeps the function, computes the same.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fxgrow.surgery.config import (
    ConfigUpdate,
    ConfiguredModule,
    Outputs,
    config_paths,
    update_attributes,
)
from fxgrow.surgery.config_search import (
    FieldPath,
    build_from_config,
    config_leaves,
    is_config,
    parameter_shapes,
)

UNKNOWN_DEPTH = "no values of its fields describe the deeper model"
_MAX_BUILDS = 200


@dataclass(frozen=True)
class DepthChange:
    """A list of blocks that got longer.

    Args:
        path: of the list in the model.
        old_length: the number of blocks before.
        sources: for each block now the old number of the block that it is, or is a copy of.
    """

    path: str
    old_length: int
    sources: tuple[int, ...]


def update_depth(
    module: nn.Module,
    changes: Sequence[DepthChange],
    example_inputs: tuple[Any, ...],
    outputs: Outputs,
    expected: Sequence[Tensor] | None,
) -> ConfigUpdate | None:
    """Set the fields of every config inside a model that tell how many blocks it has.

    Args:
        module: the model, already deeper.
        changes: what became of its lists.
        example_inputs: positional arguments of the module.
        outputs: gives the tensors of a model's output that are compared.
        expected: what they were before, if it is to compute the same.

    Returns:
        What became of the configs; None if there is none, or none of a module with such a list.
    """
    fields: dict[str, Any] = {}
    notes, is_described = [], False
    for path in config_paths(module):
        prefix = f"{path}." if path else ""
        inside = [change for change in changes if change.path.startswith(prefix)]
        if not inside:
            continue
        is_described = True
        configured = _DeeperModule(module, path, inside, outputs)
        found = configured.found(example_inputs, expected)
        if found is None:
            kind = type(configured.module).__name__
            notes.append(f"the config of {kind} is unchanged: {UNKNOWN_DEPTH}")
            continue
        configured.apply(found)
        for field_path, value in found.items():
            fields[".".join(map(str, (f"{prefix}config", *field_path)))] = value
    return ConfigUpdate(fields, "; ".join(notes)) if is_described else None


class _DeeperModule(ConfiguredModule):
    """The module at ``path``, which has a config, and in which some lists got longer."""

    def __init__(
        self, root: nn.Module, path: str, changes: Sequence[DepthChange], outputs: Outputs
    ) -> None:
        super().__init__(root, path, {}, outputs)
        self.changes = changes

    def found(
        self, example_inputs: tuple[Any, ...], expected: Sequence[Tensor] | None
    ) -> dict[FieldPath, Any] | None:
        """The first assignment that describes the model."""
        for assignment in itertools.islice(self._assignments(), _MAX_BUILDS):
            model = build_from_config(type(self.module), self.module.config, assignment)
            # On the meta device, so that wrong ones cost no memory.
            if model is None or parameter_shapes(model) != self.after:
                continue
            if not self.can_load(assignment):
                continue
            if expected is None or self.computes_the_same(assignment, expected, example_inputs):
                return assignment
        return None

    def _assignments(self) -> Iterator[dict[FieldPath, Any]]:
        """What may be tried: one number per list of blocks, and lists with an entry per block."""
        config = self.module.config
        numbers: list[list[tuple[FieldPath, Any]]] = []
        for change in self.changes:
            choices = []
            for path, value in config_leaves(config):
                if type(value) is int and value == change.old_length:
                    choices.append((path, len(change.sources)))
            numbers.append(sorted(choices, key=lambda choice: len(choice[0])))
        entries = self._entries(config)
        # A list may have as many entries by accident, so as few as possible get longer.
        entries = self._entries(config)
        longer = [{}, *({path: value} for path, value in entries.items()), entries]
        # Two lists may be told by one number, or by one each.
        for lists in longer:
            for chosen in itertools.product(*numbers):
                yield {**dict(chosen), **lists}

    def _entries(self, config: Any) -> dict[FieldPath, Any]:
        """Lists with one entry per block, longer now."""
        entries: dict[FieldPath, Any] = {}
        for path, values in _sequences(config):
            for change in self.changes:
                if len(values) == change.old_length:
                    entries[path] = type(values)(values[source] for source in change.sources)
        return entries

    def apply(self, assignment: Mapping[FieldPath, Any]) -> None:
        """Take over the config, and what the constructor makes of it outside of the lists."""
        built = build_from_config(type(self.module), self.module.config, assignment)
        before = build_from_config(type(self.module), self.module.config)
        if built is None or before is None:
            return
        old_modules = dict(before.named_modules())
        for path, new_module in built.named_modules():
            current = vars(self.module.get_submodule(path))
            # Of a list the blocks have moved, so that a path means another block than before.
            if path in old_modules and not self._is_in_list(path):
                update_attributes(current, dict(vars(old_modules[path])), dict(vars(new_module)))
            for key, value in vars(new_module).items():
                if is_config(value) and is_config(current.get(key)):
                    current[key] = value

    def _is_in_list(self, path: str) -> bool:
        whole = f"{self.path}.{path}" if self.path else path
        return any(whole.startswith(f"{change.path}.") for change in self.changes)


def _sequences(node: Any, path: FieldPath = ()) -> Iterator[tuple[FieldPath, Any]]:
    """The lists and tuples in a config and its sub-configs."""
    for key, value in vars(node).items():
        if is_config(value):
            yield from _sequences(value, (*path, key))
        elif type(value) in (list, tuple) and not key.startswith("_"):
            yield (*path, key), value
