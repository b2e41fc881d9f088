"""Keep the ``config`` of a Hugging Face style model in step with parameters that have grown.

Such a model is made by ``type(model)(config)`` and saved as its config and its tensors, so it can be loaded again only
if the config describes the shapes. Several assignments may give the right shapes (more heads, or larger ones): the one
is taken whose model also computes the same on the example inputs. transformers itself is not needed here.
"""

from collections.abc import Iterable, Mapping
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
_PLAIN_TYPES = (int, float, tuple, list)


@dataclass(frozen=True)
class ConfigUpdate:
    """What became of a config. ``fields``: its new values (``"config.intermediate_size": 32``).

    ``note``: why the config was left as it was, although parameters have grown ("" if it was not).
    """

    fields: Mapping[str, int | float] = field(default_factory=dict)
    note: str = ""


def update_config(
    module: nn.Module,
    before: ParameterShapes,
    sizes: Iterable[tuple[int, int]],
    example_inputs: tuple[Any, ...],
) -> ConfigUpdate | None:
    """Set the fields of every config inside an already grown ``module`` that describe what has grown.

    ``before``: the shapes that the module had (``shapes``); ``sizes``: (old, new) numbers of neurons of the widths that
    have changed. A config is replaced by a changed copy, since other models may hold the same one. None: there is no
    config, or nothing of what one describes has changed. The module is run in eval mode and left in its own.
    """
    updates = [
        _Owner(module, path, before).follow(frozenset(sizes), example_inputs)
        for path in _owners(module)
    ]
    known = [update for update in updates if update is not None]
    if not known:
        return None
    fields = {name: value for update in known for name, value in update.fields.items()}
    return ConfigUpdate(fields, "; ".join(update.note for update in known if update.note))


def _owners(module: nn.Module) -> list[str]:
    """The paths of the outermost modules that have a config."""
    found: list[str] = []
    for path, one in module.named_modules():
        if is_config(getattr(one, "config", None)) and not any(
            _inside(path, outer) for outer in found
        ):
            found.append(path)
    return found


def _inside(path: str, outer: str) -> bool:
    return not outer or path.startswith(f"{outer}.")


class _Owner:
    """The module at ``path``, which has a config, inside ``root``, which can be run."""

    def __init__(self, root: nn.Module, path: str, before: ParameterShapes) -> None:
        self.root, self.path = root, path
        self.module: Any = root.get_submodule(path)
        prefix = f"{path}." if path else ""
        self.before = {
            n.removeprefix(prefix): shape for n, shape in before.items() if n.startswith(prefix)
        }
        self.after = parameter_shapes(self.module)

    def follow(
        self, sizes: frozenset[tuple[int, int]], example_inputs: tuple[Any, ...]
    ) -> ConfigUpdate | None:
        changed = {name for name, shape in self.after.items() if self.before.get(name) != shape}
        if not changed:
            return None
        reference = build_from_config(type(self.module), self.module.config)
        if reference is None or parameter_shapes(reference) != self.before:
            return self._left(FOREIGN)
        saved = self.module.state_dict()
        if any(name not in saved for name in changed):
            return self._left(UNSAVED)
        changes = self._solution(sizes | self._axes(changed), example_inputs)
        if changes is None:
            return self._left(UNEVEN)
        self._apply(changes, reference)
        prefix = f"{self.path}.config" if self.path else "config"
        return ConfigUpdate(
            {".".join(map(str, (prefix, *path))): value for path, value in changes.items()}
        )

    def _left(self, why: str) -> ConfigUpdate:
        return ConfigUpdate(note=f"the config of {type(self.module).__name__} is unchanged: {why}")

    def _axes(self, changed: Iterable[str]) -> frozenset[tuple[int, int]]:
        pairs = (
            pair
            for name in changed
            for pair in zip(self.before[name], self.after[name], strict=True)
        )
        return frozenset((old, new) for old, new in pairs if old != new)

    def _solution(
        self, sizes: frozenset[tuple[int, int]], example_inputs: tuple[Any, ...]
    ) -> dict[FieldPath, int | float] | None:
        config, kind = self.module.config, type(self.module)
        known = frozenset(size for shape in self.before.values() for size in shape)
        expected: list[Tensor] | None = None
        for changes in ConfigSearch(kind, config, self.after).solutions(sizes, known):
            expected = expected or model_outputs(self.root, example_inputs)
            if self._loads(with_changes(config, changes)) and self._equals(
                changes, expected, example_inputs
            ):
                return changes
        return None

    def _loads(self, config: Any) -> bool:
        """Whether the config is the same after it was written down and read again."""
        read = getattr(type(config), "from_dict", None)
        if read is None:
            return True
        try:
            again = read(config.to_dict())
        except Exception:  # noqa: BLE001 - a config's own checks may raise anything: then it cannot be loaded
            return False
        model = build_from_config(type(self.module), again)
        return model is not None and parameter_shapes(model) == self.after

    def _equals(
        self, changes: ConfigChanges, expected: list[Tensor], example_inputs: tuple[Any, ...]
    ) -> bool:
        """Whether the model of the changed config computes the same with the grown tensors.

        It is built without memory; should it keep tensors that are neither parameters nor buffers, with it.
        """
        for device in ("meta", "cpu"):
            other = build_from_config(type(self.module), self.module.config, changes, device)
            try:
                return other is not None and _close(self._run_as(other, example_inputs), expected)
            except Exception:  # noqa: BLE001 - a model with other fields may fail anywhere: it is not the one
                continue
        return False

    def _run_as(self, other: nn.Module, example_inputs: tuple[Any, ...]) -> list[Tensor]:
        other.load_state_dict(self.module.state_dict(), assign=True)
        for path, one in other.named_modules():
            for name in one._non_persistent_buffers_set:
                one._buffers[name] = self.module.get_submodule(path)._buffers[name]
        if not self.path:
            return model_outputs(other, example_inputs)
        self.root.set_submodule(self.path, other)
        try:
            return model_outputs(self.root, example_inputs)
        finally:
            self.root.set_submodule(self.path, self.module)

    def _apply(self, changes: ConfigChanges, reference: nn.Module) -> None:
        """Take over what the constructor makes of the new config: configs of the parts, and sizes as attributes."""
        built = build_from_config(type(self.module), self.module.config, changes)
        if built is None:
            return
        for path, new in built.named_modules():
            mine, old = vars(self.module.get_submodule(path)), vars(reference.get_submodule(path))
            for key, value in vars(new).items():
                if is_config(value) and is_config(old.get(key)):
                    if value.to_dict() != old[key].to_dict():
                        mine[key] = value
                elif (
                    isinstance(value, _PLAIN_TYPES)
                    and value != old.get(key)
                    and mine.get(key) == old.get(key)
                ):
                    mine[key] = value


def model_outputs(module: nn.Module, example_inputs: tuple[Any, ...]) -> list[Tensor]:
    """The tensors of the module's output in eval mode; random models draw the same numbers every time."""
    with evaluation_mode(module), torch.no_grad(), seeded(0):
        output = module(*example_inputs)
        leaves = tree_leaves(dict(output) if isinstance(output, Mapping) else output)
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def _close(found: list[Tensor], expected: list[Tensor]) -> bool:
    """Equal to half the digits of their type: the same weights in another arrangement are far away."""
    return 0 < len(found) == len(expected) and all(
        a.shape == b.shape
        and torch.allclose(a.double(), b.double(), rtol=_half(a), atol=_half(a), equal_nan=True)
        for a, b in zip(found, expected, strict=True)
    )


def _half(tensor: Tensor) -> float:
    return float(torch.finfo(tensor.dtype).eps ** 0.5) if tensor.is_floating_point() else 0.0
