"""The union of the networks of all tasks: reading one out, and merging one in."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fxgrow.capture import capture, moved, positional
from fxgrow.continual.entries import Masks, fresh_entries, merge, private
from fxgrow.continual.head import find_head
from fxgrow.continual.reuse import everyone, narrowed
from fxgrow.coupling import Coupling, couple
from fxgrow.growth.emit import emit
from fxgrow.surgery.attributes import refresh
from fxgrow.surgery.index_map import Change
from fxgrow.surgery.resize import tensors

NEW = -1
"""The origin of a neuron that the union does not have yet."""


@dataclass(frozen=True, eq=False)
class Draft:
    """A network that one task has learnt, before it is merged.

    ``origin[width]``: the place in the union of each of its neurons, or ``NEW``; ``unlocked[width]``: which of the
    others are copies that were trained on, so that they get a place of their own.
    """

    network: nn.Module
    origin: Mapping[str, Tensor]
    unlocked: Masks

    @property
    def fresh(self) -> dict[str, Tensor]:
        """Which neurons the union gains."""
        return {name: (origin == NEW) | self.unlocked[name] for name, origin in self.origin.items()}


@dataclass(frozen=True, eq=False)
class Union:
    """The union network ``module``, the path of its last layer, and example inputs.

    Its ``private`` tensors are those of the last task that used each neuron; the next task starts from them.
    """

    module: nn.Module
    coupling: Coupling
    head: str
    inputs: tuple[Any, ...]

    @staticmethod
    def of(model: nn.Module, example_inputs: Any, head: str | None = None) -> "Union":
        """A copy of a model as the union of no tasks yet."""
        module = copy.deepcopy(model)
        inputs = positional(module, example_inputs)
        captured = capture(module, inputs)
        return Union(module, couple(captured), find_head(captured, head), inputs)

    def to(self, device: torch.device | str) -> "Union":
        """A copy on ``device``."""
        return replace(self, module=copy.deepcopy(self.module).to(device), inputs=moved(self.inputs, device))

    @property
    def private(self) -> frozenset[str]:
        """The tensors that every task has for itself."""
        return private(self.module, self.head)

    @property
    def everyone(self) -> dict[str, Tensor]:
        """The masks of a task that uses all neurons."""
        return everyone(self.coupling)

    def network(self, masks: Masks, own: Mapping[str, Tensor]) -> nn.Module:
        """A compact copy of those neurons, with these tensors of its own."""
        compact = narrowed(self.module, self.coupling, masks)
        held = tensors(compact)
        for name, tensor in own.items():
            held[name].data = tensor.clone()
        refresh(compact.get_submodule(self.head))
        return compact.eval()

    def merged(self, draft: Draft) -> tuple["Union", dict[str, Tensor]]:
        """The union with the fresh neurons of a draft at the end of their widths, and the masks of its task.

        Raises ``InternalError`` if the draft differs from the union anywhere else.
        """
        coupling = couple(draft.network, self.inputs)
        fresh, sizes = draft.fresh, {width.name: width.size for width in self.coupling.widths}
        free = fresh_entries(draft.network, coupling, fresh)
        held, own = tensors(draft.network), self.private
        free |= {name: torch.ones_like(tensor, dtype=torch.bool) for name, tensor in held.items() if name in own}
        wider = self._wider({name: int(mask.sum()) for name, mask in fresh.items()}, draft.network)
        places = {name: _placed(origin, fresh[name], sizes[name]) for name, origin in draft.origin.items()}
        merge(draft.network, coupling, wider.module, wider.coupling, places, free)
        masks = {name: torch.zeros_like(mask) for name, mask in wider.everyone.items()}
        for name, place in places.items():
            masks[name][place] = True
        return wider, masks

    def _wider(self, more: Mapping[str, int], network: nn.Module) -> "Union":
        """Room for that many more neurons per width, filled with zeros, and a head as large as that of ``network``."""
        module, widths = copy.deepcopy(self.module), enumerate(self.coupling.widths)
        emit(module, self.coupling, {n: Change((1,) * w.size, more[w.name]) for n, w in widths if more.get(w.name)}, {})
        head = module.get_submodule(self.head)
        rows = len(network.get_submodule(self.head).weight)  # type: ignore[arg-type]
        for parameter in head.parameters(recurse=False):
            parameter.data = parameter.new_zeros((rows, *parameter.shape[1:]))
        refresh(head)
        return Union(module, couple(module, self.inputs), self.head, self.inputs)


def _placed(origin: Tensor, fresh: Tensor, size: int) -> Tensor:
    """The fresh neurons follow those that are there, in their order."""
    return torch.where(fresh, size + fresh.cumsum(0) - 1, origin)


def padded(masks: Masks, union: Union) -> dict[str, Tensor]:
    """The masks of an earlier task, in which neurons that came later are off."""
    room = union.everyone
    return {name: torch.cat([mask, mask.new_zeros(len(room[name]) - len(mask))]) for name, mask in masks.items()}
