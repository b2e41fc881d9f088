"""The union of the networks of all tasks: reading one out, and merging one in."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fxgrow.capture import capture, move_to, positional_inputs
from fxgrow.continual.head import find_head
from fxgrow.continual.ownership import Masks, merge_entries, new_entry_masks, task_owned_tensors
from fxgrow.continual.reuse import full_masks, submodel
from fxgrow.coupling import Coupling, couple
from fxgrow.growth import emit
from fxgrow.surgery import Change, named_tensors, sync_size_attributes

NEW_NEURON = -1
"""The origin of a neuron that the union does not have yet."""


@dataclass(frozen=True, eq=False)
class TaskNetwork:
    """A network that one task has learnt, before it is merged.

    ``origin[width]``: the place in the union of each of its neurons, or ``NEW``; ``unlocked[width]``: which of the
    others are copies that were trained on, so that they get a place of their own.
    """

    network: nn.Module
    origin: Mapping[str, Tensor]
    unlocked: Masks

    @property
    def new(self) -> dict[str, Tensor]:
        """Which neurons the union gains."""
        return {
            name: (origin == NEW_NEURON) | self.unlocked[name]
            for name, origin in self.origin.items()
        }


@dataclass(frozen=True, eq=False)
class SharedNetwork:
    """The union network ``module``, the path of its last layer, and example inputs.

    Its ``private`` tensors are those of the last task that used each neuron; the next task starts from them.
    """

    module: nn.Module
    coupling: Coupling
    head: str
    inputs: tuple[Any, ...]

    @staticmethod
    def of(model: nn.Module, example_inputs: Any, head: str | None = None) -> "SharedNetwork":
        """A copy of a model as the union of no tasks yet."""
        module = copy.deepcopy(model)
        inputs = positional_inputs(module, example_inputs)
        captured = capture(module, inputs)
        return SharedNetwork(module, couple(captured), find_head(captured, head), inputs)

    def to(self, device: torch.device | str) -> "SharedNetwork":
        """A copy on ``device``."""
        return replace(
            self, module=copy.deepcopy(self.module).to(device), inputs=move_to(self.inputs, device)
        )

    @property
    def private(self) -> frozenset[str]:
        """The tensors that every task has for itself."""
        return task_owned_tensors(self.module, self.head)

    @property
    def full_masks(self) -> dict[str, Tensor]:
        """The masks of a task that uses all neurons."""
        return full_masks(self.coupling)

    def network(self, masks: Masks, own: Mapping[str, Tensor]) -> nn.Module:
        """A compact copy of those neurons, with these tensors of its own."""
        compact = submodel(self.module, self.coupling, masks)
        held = named_tensors(compact)
        for name, tensor in own.items():
            held[name].data = tensor.clone()
        sync_size_attributes(compact.get_submodule(self.head))
        return compact.eval()

    def merged(self, draft: TaskNetwork) -> tuple["SharedNetwork", dict[str, Tensor]]:
        """The union with the fresh neurons of a draft at the end of their widths, and the masks of its task.

        Raises ``InternalError`` if the draft differs from the union anywhere else.
        """
        coupling = couple(draft.network, self.inputs)
        new, sizes = draft.new, {width.name: width.size for width in self.coupling.widths}
        free = new_entry_masks(draft.network, coupling, new)
        held, own = named_tensors(draft.network), self.private
        free |= {
            name: torch.ones_like(tensor, dtype=torch.bool)
            for name, tensor in held.items()
            if name in own
        }
        wider = self._wider({name: int(mask.sum()) for name, mask in new.items()}, draft.network)
        places = {
            name: _placed(origin, new[name], sizes[name]) for name, origin in draft.origin.items()
        }
        merge_entries(draft.network, coupling, wider.module, wider.coupling, places, free)
        masks = {name: torch.zeros_like(mask) for name, mask in wider.full_masks.items()}
        for name, place in places.items():
            masks[name][place] = True
        return wider, masks

    def _wider(self, more: Mapping[str, int], network: nn.Module) -> "SharedNetwork":
        """Room for that many more neurons per width, filled with zeros, and a head as large as that of ``network``."""
        module, widths = copy.deepcopy(self.module), enumerate(self.coupling.widths)
        emit(
            module,
            self.coupling,
            {n: Change((1,) * w.size, more[w.name]) for n, w in widths if more.get(w.name)},
            {},
        )
        head = module.get_submodule(self.head)
        rows = len(network.get_submodule(self.head).weight)  # type: ignore[arg-type]
        for parameter in head.parameters(recurse=False):
            parameter.data = parameter.new_zeros((rows, *parameter.shape[1:]))
        sync_size_attributes(head)
        return SharedNetwork(module, couple(module, self.inputs), self.head, self.inputs)


def _placed(origin: Tensor, new: Tensor, size: int) -> Tensor:
    """The fresh neurons follow those that are there, in their order."""
    return torch.where(new, size + new.cumsum(0) - 1, origin)


def pad_masks(masks: Masks, union: SharedNetwork) -> dict[str, Tensor]:
    """The masks of an earlier task, in which neurons that came later are off."""
    room = union.full_masks
    return {
        name: torch.cat([mask, mask.new_zeros(len(room[name]) - len(mask))])
        for name, mask in masks.items()
    }
