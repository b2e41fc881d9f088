"""The union of the networks of all tasks: reading one out, and merging one in."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fxgrow.capture import capture, move_to, positional_inputs
from fxgrow.continual.head import find_head
from fxgrow.continual.ownership import (
    Masks,
    all_entries,
    merge_entries,
    new_entry_masks,
    task_owned_tensors,
)
from fxgrow.continual.reuse import full_masks, submodel
from fxgrow.coupling import Coupling, couple
from fxgrow.growth import emit
from fxgrow.surgery import Change, named_tensors, sync_size_attributes

NEW_NEURON = -1
"""The origin of a neuron that the union does not have yet."""


@dataclass(frozen=True, eq=False)
class TaskNetwork:
    """A network that one task has learned, before it is merged.

    Args:
        network: the network.
        origin: by name of a width, the place in the union of each of its neurons, or
            ``NEW_NEURON``.
        unlocked: by name of a width, which of the others are copies that were trained on, so that
            they get a place of their own.
    """

    network: nn.Module
    origin: Mapping[str, Tensor]
    unlocked: Masks

    @property
    def new(self) -> dict[str, Tensor]:
        """Which neurons the union gains."""
        masks: dict[str, Tensor] = {}
        for name, origin in self.origin.items():
            masks[name] = (origin == NEW_NEURON) | self.unlocked[name]
        return masks


@dataclass(frozen=True, eq=False)
class SharedNetwork:
    """The union network.

    Its ``private`` tensors are those of the last task that used each neuron; the next task starts
    from them.

    Args:
        module: the network.
        coupling: its coupling.
        head: the path of its head.
        inputs: its example inputs.
    """

    module: nn.Module
    coupling: Coupling
    head: str
    inputs: tuple[Any, ...]

    @staticmethod
    def of(model: nn.Module, example_inputs: Any, head: str | None = None) -> "SharedNetwork":
        """Make a copy of a model the union of no tasks yet.

        Args:
            model: the model.
            example_inputs: inputs of the model, as ``fxgrow.capture`` takes them.
            head: path of the layer that gives the class scores; None: the last layer.

        Returns:
            The union.

        Raises:
            GrowthError: ``no-head``.
        """
        module = copy.deepcopy(model)
        # A model that is called with keywords is called by position from here on.
        inputs = positional_inputs(module, example_inputs)
        captured = capture(module, inputs)
        return SharedNetwork(module, couple(captured), find_head(captured, head), inputs)

    def to(self, device: torch.device | str) -> "SharedNetwork":
        """Copy to a device."""
        module = copy.deepcopy(self.module).to(device)
        return replace(self, module=module, inputs=move_to(self.inputs, device))

    @property
    def private(self) -> frozenset[str]:
        """The tensors that every task has for itself."""
        return task_owned_tensors(self.module, self.head)

    @property
    def full_masks(self) -> dict[str, Tensor]:
        """The masks of a task that uses all neurons."""
        return full_masks(self.coupling)

    def network(self, masks: Masks, own: Mapping[str, Tensor]) -> nn.Module:
        """Read a task's network out.

        Args:
            masks: by name of a width, which neurons it has.
            own: by name the tensors that the task has for itself.

        Returns:
            A compact copy, in evaluation mode.
        """
        compact = submodel(self.module, self.coupling, masks)
        tensors = named_tensors(compact)
        for name, tensor in own.items():
            tensors[name].data = tensor.clone()
        # The head has the task's own number of classes now.
        sync_size_attributes(compact.get_submodule(self.head))
        return compact.eval()

    def merged(self, draft: TaskNetwork) -> tuple["SharedNetwork", dict[str, Tensor]]:
        """Merge a task's network in; its new neurons come last in their widths.

        Args:
            draft: the network.

        Returns:
            The wider union, and the masks of the task in it.

        Raises:
            InternalError: if the draft differs from the union where it may not.
        """
        coupling = couple(draft.network, self.inputs)
        new = draft.new
        own_entries = all_entries(named_tensors(draft.network), self.private)
        free = new_entry_masks(draft.network, coupling, new) | own_entries
        counts = {name: int(mask.sum()) for name, mask in new.items()}
        # Merging never overwrites: an unlocked copy gets a new place beside its original.
        wider = self._wider(counts, draft.network)
        places: dict[str, Tensor] = {}
        for name, origin in draft.origin.items():
            size = self.coupling.by_name[name].size
            places[name] = _places(origin, new[name], size)
        merge_entries(draft.network, coupling, wider.module, wider.coupling, places, free)
        masks = {name: torch.zeros_like(mask) for name, mask in wider.full_masks.items()}
        for name, place in places.items():
            masks[name][place] = True
        return wider, masks

    def _wider(self, counts: Mapping[str, int], network: nn.Module) -> "SharedNetwork":
        """Add so many zero neurons per width, and make the head as large as that of ``network``."""
        module = copy.deepcopy(self.module)
        changes: dict[int, Change] = {}
        for number, width in enumerate(self.coupling.widths):
            count = counts.get(width.name, 0)
            if count:
                changes[number] = Change((1,) * width.size, count)
        emit(module, self.coupling, changes, {})
        head = module.get_submodule(self.head)
        rows = len(network.get_submodule(self.head).weight)  # type: ignore[arg-type]
        for parameter in head.parameters(recurse=False):
            parameter.data = parameter.new_zeros((rows, *parameter.shape[1:]))
        sync_size_attributes(head)
        return SharedNetwork(module, couple(module, self.inputs), self.head, self.inputs)


def _places(origin: Tensor, new: Tensor, size: int) -> Tensor:
    """Where each neuron goes in the union: new ones follow its ``size`` old ones in order."""
    # cumsum counts the new neurons up to and including each one.
    return torch.where(new, size + new.cumsum(0) - 1, origin)


def pad_masks(masks: Masks, union: SharedNetwork) -> dict[str, Tensor]:
    """Extend the masks of an earlier task to the neurons that came later, which are off.

    Args:
        masks: the masks of the task, by name of the width.
        union: the union as it is now.

    Returns:
        Masks as long as the union's widths.
    """
    full = union.full_masks
    padded: dict[str, Tensor] = {}
    for name, mask in masks.items():
        missing = len(full[name]) - len(mask)
        padded[name] = torch.cat([mask, mask.new_zeros(missing)])
    return padded
