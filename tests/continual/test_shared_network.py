"""Reading a network out of the union and merging one in are inverse to each other, to the bit."""

from collections.abc import Mapping

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fxgrow.continual.ownership import new_entry_masks
from fxgrow.continual.reuse import _MIN_NEURONS, submodel
from fxgrow.continual.shared_network import NEW_NEURON, SharedNetwork, TaskNetwork, pad_masks
from fxgrow.continual.state import tensor_fingerprint
from fxgrow.coupling import couple
from fxgrow.errors import InternalError
from fxgrow.growth.emit import emit
from fxgrow.surgery.index_map import Change
from fxgrow.surgery.resize import named_tensors
from tests.networks import NETWORKS, images, network


def union_of(name: str) -> SharedNetwork:
    return SharedNetwork.of(network(name), (images(),))


@torch.no_grad()
def drafted(union: SharedNetwork, seed: int, *, ordered: bool = False) -> TaskNetwork:
    """Any two or more of the neurons, any of them unlocked, up to two new ones; all that may be trained is random.

    ``ordered``: the unlocked ones come after the locked ones, as they do in the union.
    """
    generator = torch.Generator().manual_seed(seed)
    masks = {
        name: torch.rand(len(mask), generator=generator) < 0.7
        for name, mask in union.full_masks.items()
    }
    for mask in masks.values():
        mask[torch.randperm(len(mask), generator=generator)[:_MIN_NEURONS]] = True
    more = {name: int(torch.randint(3, (), generator=generator)) for name in masks}
    origin = {
        name: torch.cat([mask.nonzero().reshape(-1), torch.full((more[name],), NEW_NEURON)])
        for name, mask in masks.items()
    }
    unlocked = {
        name: (torch.rand(len(one), generator=generator) < 0.3) & (one != NEW_NEURON)
        for name, one in origin.items()
    }
    if ordered:
        unlocked = {
            n: torch.cat([u[: len(u) - more[n]].sort().values, u[len(u) - more[n] :]])
            for n, u in unlocked.items()
        }
    compact = submodel(union.module, union.coupling, masks)
    coupling = couple(compact, union.inputs)
    changes = {
        n: Change((1,) * w.size, more[w.name])
        for n, w in enumerate(coupling.widths)
        if more.get(w.name)
    }
    emit(compact, coupling, changes, {})
    draft = TaskNetwork(compact, origin, unlocked)
    scramble(compact, union, draft.new, generator)
    return draft


def scramble(
    compact: nn.Module, union: SharedNetwork, new: Mapping[str, Tensor], generator: torch.Generator
) -> None:
    mine = new_entry_masks(compact, couple(compact, union.inputs), new)
    for name, tensor in named_tensors(compact).items():
        free = (
            torch.ones_like(tensor, dtype=torch.bool) if name in union.private else mine.get(name)
        )
        if free is not None and tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
            tensor.copy_(torch.where(free, noise, tensor))


def own(union: SharedNetwork, draft: TaskNetwork) -> dict[str, Tensor]:
    held = named_tensors(draft.network)
    return {name: held[name].detach().clone() for name in union.private}


@pytest.mark.parametrize("name", NETWORKS)
@settings(
    max_examples=5, deadline=None, phases=(Phase.generate,)
)  # a smaller seed is no simpler draft
@given(seeds=st.lists(st.integers(0, 2**32), min_size=2, max_size=3))
def test_a_chain_of_drafts_is_read_out_as_it_was_merged(name: str, seeds: list[int]) -> None:
    union, kept = union_of(name), []
    for seed in seeds:
        draft = drafted(union, seed, ordered=True)
        union, masks = union.merged(draft)
        kept.append((tensor_fingerprint(draft.network), masks, own(union, draft)))
    for print_, masks, tensors_ in kept:
        assert tensor_fingerprint(union.network(pad_masks(masks, union), tensors_)) == print_


@pytest.mark.parametrize("name", NETWORKS)
def test_a_draft_whose_copies_lie_between_is_read_out_in_another_order(name: str) -> None:
    """The same function but for the order of sums; as what is read out is kept, no task ever sees the difference."""
    union = union_of(name)
    draft = drafted(union, 5)
    wider, masks = union.merged(draft)
    torch.testing.assert_close(
        wider.network(masks, {})(images()), draft.network.eval()(images()), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_places_of_copies_and_of_new_neurons_follow(name: str) -> None:
    """Locked neurons keep their place, a copy does not take its original's, and every new place is used."""
    union = union_of(name)
    draft = drafted(union, 3)
    wider, masks = union.merged(draft)
    for width, mask in masks.items():
        before = len(union.full_masks[width])
        locked = draft.origin[width][~draft.new[width]]
        assert mask[:before].nonzero().reshape(-1).tolist() == locked.tolist()
        assert mask[before:].all() and len(mask) - before == draft.new[width].sum()
    assert len(named_tensors(wider.module)) == len(named_tensors(union.module))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_locked_entry_that_moved_is_refused(name: str) -> None:
    union = union_of(name)
    draft = drafted(union, 3)
    free = new_entry_masks(draft.network, couple(draft.network, union.inputs), draft.new)
    shared = {n: t for n, t in named_tensors(draft.network).items() if n not in union.private}
    moved, tensor = next((n, t) for n, t in shared.items() if not free.get(n, torch.zeros(1)).all())
    place = (~free.get(moved, torch.zeros_like(tensor, dtype=torch.bool))).nonzero()[0]
    with torch.no_grad():
        tensor[tuple(place)] += 1e-12
    with pytest.raises(InternalError, match=f"changed {moved} where it belongs to earlier tasks"):
        union.merged(draft)


def test_masks_of_earlier_tasks_leave_out_what_came_later() -> None:
    union = union_of("block")
    assert pad_masks({"up": torch.tensor([True, False])}, union)["up"].tolist() == [True] + 5 * [
        False
    ]
