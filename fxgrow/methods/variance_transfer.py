"""Variance transfer: pairs of new neurons with the variance of the old ones, which cancel out.

Reference: Yuan, Savarese, Maire, "Accelerated Training via Incrementally Growing Neural Networks
using Variance Transfer and Learning Rate Adaptation", NeurIPS 2023, section 3. New neurons come
in pairs with the same incoming weights v and opposite outgoing weights,

    z + c sigma(v^T x) - c sigma(v^T x) = z,

so that the function stays as it is although no new weight is 0: incoming ones get a gradient in the
first step, too, with opposite signs in a pair, which parts it. A hidden layer with C inputs has
weights of variance 1 / C; as it grows to C' inputs new weights are drawn with variance 1 / C' and
the old ones multiplied by sqrt(C / C'), so that new and old entries are of the same variance, and
so are the activations that they make.

How we differ: new entries have the variance of the old ones, which is the paper's ratio of the two,
but old weights stay as they are. The common factor sqrt(C / C') of both would take the share
1 - sqrt(C / C') off the layer's output (13 % at a growth by a third) unless a batch norm follows,
which undoes it; growth in fxgrow changes no old weight. The other half of the paper, a learning
rate for each stage of growth, is the setting ``new_entry_rate`` of ``fxgrow.grow``. A neuron whose
twin the budget did not buy has outgoing weights of 0.
"""

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from fxgrow.coupling import Coupling
from fxgrow.documents import Settings
from fxgrow.growth import Objective, Proposal, Scores, SelectFunction, estimate_statistics
from fxgrow.methods.entries import NeuronEntries
from fxgrow.methods.firefly.neighborhood import (
    incoming_tensors,
    initialize,
    outgoing_tensors,
    overgrown_layers,
)
from fxgrow.methods.proposals import propose_in_proportion
from fxgrow.methods.zero_outgoing import ON
from fxgrow.rewrite import OverGrown


class VarianceTransfer(Settings):
    """Pairs of new neurons with opposite outgoing weights, in every width by the same share.

    Example:
        >>> fxgrow.grow(model, batches, loss_fn, method=VarianceTransfer()).report.widths
    """

    @property
    def keeps_function(self) -> bool:
        """The loss stays what it is."""
        return True

    def propose(self, coupling: Coupling) -> Proposal:
        """Propose as many new neurons as the budget buys, and no splits."""
        return propose_in_proportion(coupling)

    def search(
        self,
        grown: OverGrown,
        objective: Objective,
        generator: torch.Generator,
        choose: SelectFunction,
    ) -> Scores:
        """Draw pairs; all candidates are as good as each other, so the first ones are taken."""
        initialize(grown, ON, generator)
        candidates, layers = grown.candidates, overgrown_layers(grown)
        incoming = NeuronEntries.of(incoming_tensors(layers), candidates.new_eps)
        outgoing = NeuronEntries.of(outgoing_tensors(layers), candidates.new_eps)
        first, second = _pairs(grown)
        rows, columns = incoming.read(incoming.parts), outgoing.read(outgoing.parts)
        # The same neuron twice, which leaves with opposite signs.
        rows[second] = rows[first]
        noise = torch.randn(columns[first].shape, generator=generator, dtype=torch.float64)
        # A column has as many entries as there are coordinates, so its norm is about 1.
        drawn = noise / _coordinates(outgoing)[first].sqrt()[:, None]
        columns[first], columns[second] = drawn.to(columns), -drawn.to(columns)
        incoming.write(rows)
        outgoing.write(columns)
        _share_carriers(grown, dict(zip(second.tolist(), first.tolist(), strict=True)))
        estimate_statistics(grown, objective)
        return Scores(torch.zeros(len(candidates.split_eps)), torch.ones(len(candidates.new_eps)))

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        """Set the outgoing weights of a neuron to 0 whose twin was not selected."""
        layers, eps = overgrown_layers(grown), grown.candidates.new_eps
        incoming = NeuronEntries.of(incoming_tensors(layers), eps)
        outgoing = NeuronEntries.of(outgoing_tensors(layers), eps)
        rows, columns = incoming.read(incoming.parts), outgoing.read(outgoing.parts)
        columns[_without_twin(grown, rows)] = 0.0
        outgoing.write(columns)


def _pairs(grown: OverGrown) -> tuple[Tensor, Tensor]:
    """The first and the second neuron of every pair: neighbors in their width."""
    first: list[int] = []
    for places in grown.candidates.new.values():
        first.extend(range(places.start, places.stop - 1, 2))
    index = torch.tensor(first, dtype=torch.long)
    return index, index + 1


@torch.no_grad()
def _share_carriers(grown: OverGrown, twin_of: Mapping[int, int]) -> None:
    """Give the second neuron of a pair what the first one passes through: a depthwise kernel, say.

    Args:
        grown: the over-grown graph, changed in place.
        twin_of: the first neuron of the pair of each second one.
    """
    graph_module, candidates = grown.graph_module, grown.candidates
    held = {id(one) for one in (*graph_module.parameters(), *graph_module.buffers())}
    for entry in grown.entries:
        if entry.slots is None:
            continue
        values = entry.values(candidates.split_eps, candidates.new_eps)
        if id(values) not in held:  # computed of a layer's weights
            continue
        places: dict[int, list[int]] = defaultdict(list)
        for place, candidate in enumerate(entry.slots.candidate.tolist()):
            places[candidate].append(place)
        # A neuron may take several places (a flattened map), in the same order as its twin.
        source = list(range(len(entry.slots.candidate)))
        for second, first in twin_of.items():
            for place, twin_place in zip(places[second], places[first], strict=True):
                source[place] = twin_place
        index = torch.tensor(source, device=values.device)
        values.copy_(values.index_select(entry.axis, index))


def _coordinates(entries: NeuronEntries) -> Tensor:
    """How many coordinates each neuron has, at least 1."""
    owned = entries.neuron[entries.neuron >= 0].cpu()
    return torch.bincount(owned, minlength=entries.count).clamp(min=1).double()


def _without_twin(grown: OverGrown, rows: Tensor) -> Tensor:
    """Whether a neuron that is on has no neighbor that is on with the same incoming weights."""
    is_on = grown.candidates.new_eps.detach() != 0
    alone = is_on.clone()
    for places in grown.candidates.new.values():
        # Pairs start at the first neuron of a width, and neurons that are gone leave no gap in it.
        index = places.start
        while index + 1 < places.stop:
            both = bool(is_on[index] and is_on[index + 1])
            is_pair = both and torch.equal(rows[index], rows[index + 1])
            if is_pair:
                alone[index] = alone[index + 1] = False
            index += 2 if is_pair else 1
    return alone
