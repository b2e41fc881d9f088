"""Keep the ``config`` of a Hugging Face style model in step with parameters that have grown.

Such a model is made by ``type(model)(config)`` and saved as its config and its tensors, so it can
be loaded again only if the config describes the shapes. Several assignments may give the right
shapes (more heads, or larger ones): the one is taken whose model also computes the same on the
example inputs. transformers itself is not needed here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fxgrow.modes import evaluation_mode
from fxgrow.randomness import seeded
from fxgrow.surgery.config_search import (
    ConfigChanges,
    ConfigSearch,
    FieldPath,
    ParameterShapes,
    build_from_config,
    is_config,
    parameter_shapes,
    with_changes,
)

__all__ = ["ConfigUpdate", "parameter_shapes", "update_config"]

FOREIGN = "the model was not what its config describes before it grew either"
UNSAVED = "a buffer that is not saved has grown, and the constructor would make it anew"
UNEVEN = "no values of its fields describe the grown model (layers may have grown unevenly)"
Outputs = Callable[[nn.Module, tuple[Any, ...]], Sequence[Tensor]]
"""Gives the tensors of a model's output that are compared, from its positional arguments."""

_PLAIN_TYPES = (int, float, tuple, list)


@dataclass(frozen=True)
class ConfigUpdate:
    """What became of a config.

    Args:
        fields: its new values (``"config.intermediate_size": 32``).
        note: why the config was left as it was, although parameters have grown ("" if it was not).
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


def update_config(
    module: nn.Module,
    before: ParameterShapes,
    sizes: Iterable[tuple[int, int]],
    example_inputs: tuple[Any, ...],
) -> ConfigUpdate | None:
    """Set the fields of every config inside a grown module that describe what has grown.

    A config is replaced by a changed copy, since other models may hold the same one. The module is
    run in evaluation mode and left in its own.

    Args:
        module: the module, already grown.
        before: the shapes that it had (``parameter_shapes``).
        sizes: (old, new) numbers of neurons of the widths that have changed.
        example_inputs: positional arguments of the module.

    Returns:
        What became of the configs; None if there is none, or if nothing of what one describes has
        changed.
    """
    size_changes = frozenset(sizes)
    updates = []
    for path in config_paths(module):
        update = ConfiguredModule(module, path, before).update(size_changes, example_inputs)
        if update is not None:
            updates.append(update)
    if not updates:
        return None
    fields: dict[str, Any] = {}
    for update in updates:
        fields.update(update.fields)
    notes = [update.note for update in updates if update.note]
    return ConfigUpdate(fields, "; ".join(notes))


def config_paths(module: nn.Module) -> list[str]:
    """The paths of the outermost modules that have a config."""
    paths: list[str] = []
    for path, submodule in module.named_modules():
        has_config = is_config(getattr(submodule, "config", None))
        if has_config and not any(_is_inside(path, outer) for outer in paths):
            paths.append(path)
    return paths


def _is_inside(path: str, outer: str) -> bool:
    return not outer or path.startswith(f"{outer}.")


def model_outputs(module: nn.Module, example_inputs: tuple[Any, ...]) -> list[Tensor]:
    """The tensors of a module's output in evaluation mode.

    Args:
        module: random ones draw the same numbers every time.
        example_inputs: its positional arguments.

    Returns:
        The tensors, in the order of the output.
    """
    with evaluation_mode(module), torch.no_grad(), seeded(0):
        output = module(*example_inputs)
        leaves = tree_leaves(dict(output) if isinstance(output, Mapping) else output)
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


class ConfiguredModule:
    """The module at ``path``, which has a config, inside ``root``, which can be run."""

    def __init__(
        self,
        root: nn.Module,
        path: str,
        before: ParameterShapes,
        outputs: Outputs = model_outputs,
    ) -> None:
        self.root = root
        self.outputs = outputs
        self.path = path
        self.module: Any = root.get_submodule(path)
        self.before: ParameterShapes = {}
        prefix = f"{path}." if path else ""
        for name, shape in before.items():
            if name.startswith(prefix):
                self.before[name.removeprefix(prefix)] = shape
        self.after = parameter_shapes(self.module)

    def update(
        self, sizes: frozenset[tuple[int, int]], example_inputs: tuple[Any, ...]
    ) -> ConfigUpdate | None:
        changed = {name for name, shape in self.after.items() if self.before.get(name) != shape}
        if not changed:
            return None
        reference = build_from_config(type(self.module), self.module.config)
        if reference is None or parameter_shapes(reference) != self.before:
            return self._unchanged(FOREIGN)
        if not changed <= self.module.state_dict().keys():
            return self._unchanged(UNSAVED)
        changes = self._solution(sizes | self._changed_sizes(changed), example_inputs)
        if changes is None:
            return self._unchanged(UNEVEN)
        self._apply(changes, reference)
        prefix = f"{self.path}.config" if self.path else "config"
        fields = {}
        for path, value in changes.items():
            fields[".".join(map(str, (prefix, *path)))] = value
        return ConfigUpdate(fields)

    def _unchanged(self, why: str) -> ConfigUpdate:
        return ConfigUpdate(note=f"the config of {type(self.module).__name__} is unchanged: {why}")

    def _changed_sizes(self, changed: Iterable[str]) -> frozenset[tuple[int, int]]:
        """(Old, new) sizes of the axes that have changed."""
        sizes = set()
        for name in changed:
            for old, new in zip(self.before[name], self.after[name], strict=True):
                if old != new:
                    sizes.add((old, new))
        return frozenset(sizes)

    def _solution(
        self, sizes: frozenset[tuple[int, int]], example_inputs: tuple[Any, ...]
    ) -> dict[FieldPath, int | float] | None:
        """The first assignment whose model can be loaded and computes the same."""
        config = self.module.config
        known: set[int] = set()
        for shape in self.before.values():
            known.update(shape)
        expected: list[Tensor] | None = None
        search = ConfigSearch(type(self.module), config, self.after)
        for changes in search.solutions(sizes, frozenset(known)):
            try:
                expected = expected or model_outputs(self.root, example_inputs)
            except Exception:  # noqa: BLE001 - the check of the growth says why it does not run
                return None
            if self.can_load(changes) and self.computes_the_same(changes, expected, example_inputs):
                return changes
        return None

    def can_load(self, changes: ConfigChanges) -> bool:
        """Whether the changed config is the same after it was written and read again."""
        config = with_changes(self.module.config, changes)
        from_dict = getattr(type(config), "from_dict", None)
        if from_dict is None:
            return True
        try:
            loaded = from_dict(config.to_dict())
        except Exception:  # noqa: BLE001 - a config's own checks may raise anything
            return False
        model = build_from_config(type(self.module), loaded)
        return model is not None and parameter_shapes(model) == self.after

    def computes_the_same(
        self, changes: ConfigChanges, expected: Sequence[Tensor], example_inputs: tuple[Any, ...]
    ) -> bool:
        """Whether the model of the changed config computes the same with the grown tensors."""
        # Without memory first. Tensors that are neither parameters nor buffers have no values on
        # the meta device, so a model that keeps some does not run and is built with memory.
        for device in ("meta", "cpu"):
            model = build_from_config(type(self.module), self.module.config, changes, device)
            if model is None:
                return False
            try:
                return _are_close(self._run_as(model, example_inputs), expected)
            except Exception:  # noqa: BLE001 - a model with other fields may fail anywhere
                continue
        return False

    def _run_as(self, model: nn.Module, example_inputs: tuple[Any, ...]) -> Sequence[Tensor]:
        """The outputs of the root with another model, which gets our tensors, in our place."""
        model.load_state_dict(self.module.state_dict(), assign=True)
        for path, submodule in model.named_modules():
            for name in submodule._non_persistent_buffers_set:
                submodule._buffers[name] = self.module.get_submodule(path)._buffers[name]
        if not self.path:
            return self.outputs(model, example_inputs)
        self.root.set_submodule(self.path, model)
        try:
            return self.outputs(self.root, example_inputs)
        finally:
            self.root.set_submodule(self.path, self.module)

    def _apply(self, changes: ConfigChanges, reference: nn.Module) -> None:
        """Take over what the constructor makes of the new config.

        These are configs of the parts, and sizes that modules keep as attributes.
        """
        built = build_from_config(type(self.module), self.module.config, changes)
        if built is None:
            return
        for path, new_module in built.named_modules():
            old = vars(reference.get_submodule(path))
            update_attributes(vars(self.module.get_submodule(path)), old, vars(new_module))


def update_attributes(current: dict[str, Any], old: dict[str, Any], new: dict[str, Any]) -> None:
    """Change the attributes in which the models of the old and of the new config differ."""
    for key, value in new.items():
        before: Any = old.get(key)
        if is_config(value) and is_config(before):
            if value.to_dict() != before.to_dict():
                current[key] = value
        elif isinstance(value, _PLAIN_TYPES) and value != before and current.get(key) == before:
            current[key] = value  # else the user has set it by hand


def _are_close(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Whether outputs are equal to half the digits of their type.

    The same weights in another arrangement give outputs that are far away.
    """
    if not outputs or len(outputs) != len(expected):
        return False
    for a, b in zip(outputs, expected, strict=True):
        tolerance = _half_precision(a)
        if a.shape != b.shape:
            return False
        if not torch.allclose(
            a.double(), b.double(), rtol=tolerance, atol=tolerance, equal_nan=True
        ):
            return False
    return True


def _half_precision(tensor: Tensor) -> float:
    """The square root of the spacing of floats at 1; integers must be equal."""
    return float(torch.finfo(tensor.dtype).eps ** 0.5) if tensor.is_floating_point() else 0.0
