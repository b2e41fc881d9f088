"""IndexMaps: algebra by hypothesis, the insertion order by example."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fxgrow.surgery.index_map import NEW_INDEX, Change, IndexMap, axis_map, run_starts


@st.composite
def maps(draw: st.DrawFn, size: int) -> IndexMap:
    """Any map from ``size`` old entries: copies, removals and new entries in any order."""
    source = draw(st.lists(st.integers(NEW_INDEX, size - 1), min_size=1, max_size=8))
    scale = draw(
        st.lists(st.sampled_from([0.25, 0.5, 1.0]), min_size=len(source), max_size=len(source))
    )
    return IndexMap(
        torch.tensor(source),
        torch.tensor(scale, dtype=torch.float64),
        torch.zeros(len(source)).long(),
    )


@st.composite
def chains(draw: st.DrawFn) -> tuple[Tensor, IndexMap, IndexMap]:
    size = draw(st.integers(1, 6))
    first = draw(maps(size))
    return (
        torch.arange(1.0, 3 * size + 1, dtype=torch.float64).view(3, size),
        first,
        draw(maps(len(first.source))),
    )


@settings(deadline=None)
@given(chains())
def test_composing_is_applying_twice(chain: tuple[Tensor, IndexMap, IndexMap]) -> None:
    tensor, first, second = chain
    torch.testing.assert_close(
        first.then(second).apply(tensor, 1), second.apply(first.apply(tensor, 1), 1)
    )


@settings(deadline=None)
@given(chains())
def test_the_identity_is_neutral(chain: tuple[Tensor, IndexMap, IndexMap]) -> None:
    tensor, one, _ = chain
    before, after = IndexMap.identity(tensor.shape[1]), IndexMap.identity(len(one.source))
    for same in (before.then(one), one.then(after), one):
        assert torch.equal(same.apply(tensor, 1), one.apply(tensor, 1))
    assert torch.equal(before.apply(tensor, 1), tensor)


@settings(deadline=None)
@given(chains())
def test_place_fills_exactly_the_new_entries(chain: tuple[Tensor, IndexMap, IndexMap]) -> None:
    tensor, one, _ = chain
    placed = one.place(torch.ones(3, len(one.new)), 1)
    assert torch.equal(placed[0] == 1, one.source == NEW_INDEX)
    assert (one.apply(tensor, 1)[:, one.new] == 0).all()


@st.composite
def widths(draw: st.DrawFn) -> tuple[list[tuple[int, int]], dict[int, Change]]:
    """Owners of an axis made of runs of two widths, and changes of both."""
    sizes = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    run = draw(st.integers(1, 3))
    times = [draw(st.lists(st.integers(1, 3), min_size=n, max_size=n)) for n in sizes]
    owners = [(w, n) for w in (0, 1) for n in range(sizes[w]) for _ in range(run)]
    return owners, {w: Change(tuple(times[w]), draw(st.integers(0, 2))) for w in (0, 1)}


@settings(deadline=None)
@given(widths())
def test_copies_of_a_reader_sum_to_the_original(
    case: tuple[list[tuple[int, int]], dict[int, Change]],
) -> None:
    owners, changes = case
    index_map = _axis_map(owners, changes, reads=True)
    kept = index_map.source != NEW_INDEX
    sums = torch.zeros(len(owners), dtype=torch.float64).index_add(
        0, index_map.source[kept], index_map.scale[kept]
    )
    torch.testing.assert_close(sums, torch.ones(len(owners), dtype=torch.float64))
    run = owners.count(owners[0])
    assert len(index_map.source) == run * sum(change.size for change in changes.values())


@settings(deadline=None)
@given(widths())
def test_writers_are_copied_unscaled(case: tuple[list[tuple[int, int]], dict[int, Change]]) -> None:
    assert (_axis_map(*case, reads=False).scale == 1).all()


def _axis_map(owners: list[tuple[int, int]], changes: dict[int, Change], reads: bool) -> IndexMap:
    width, neuron = np.array(owners).T
    return axis_map(width, neuron, changes, reads)


def test_copies_follow_each_run_and_new_neurons_follow_the_last() -> None:
    owners = [(0, 0), (0, 0), (0, 1), (0, 1)]
    index_map = _axis_map(owners, {0: Change((2, 1), new=1)}, reads=True)
    assert index_map.source.tolist() == [0, 1, 0, 1, 2, 3, NEW_INDEX, NEW_INDEX]
    assert index_map.scale.tolist() == [0.5, 0.5, 0.5, 0.5, 1, 1, 1, 1]
    assert index_map.copy.tolist() == [0, 0, 1, 1, 0, 0, 0, 0]


def test_a_neuron_that_occurs_twice_is_copied_at_both_places() -> None:
    index_map = _axis_map([(0, 0), (0, 1), (0, 0), (0, 1)], {0: Change((2, 1))}, reads=False)
    assert index_map.source.tolist() == [0, 0, 1, 2, 2, 3]


def test_other_widths_and_nobodys_places_stay() -> None:
    index_map = _axis_map([(-1, -1), (1, 0), (0, 0)], {0: Change((1,), new=2)}, reads=False)
    assert index_map.source.tolist() == [0, 1, 2, NEW_INDEX, NEW_INDEX]
    assert index_map.copy.tolist() == [0, 0, 0, 0, 1]


def test_removed_neurons_are_gone() -> None:
    assert _axis_map(
        [(0, 0), (0, 1), (0, 2)], {0: Change((1, 0, 1))}, reads=True
    ).source.tolist() == [0, 2]


def test_runs_end_where_width_or_neuron_changes() -> None:
    assert run_starts(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])).tolist() == [0, 2, 3]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.int64, torch.bool])
def test_any_dtype_is_mapped(dtype: torch.dtype) -> None:
    tensor = torch.ones(2, dtype=dtype)
    mapped = _axis_map([(0, 0), (0, 1)], {0: Change((2, 1))}, reads=False).apply(tensor, 0)
    assert mapped.dtype == dtype
    assert mapped.tolist() == [1, 1, 1]


def test_mapping_is_differentiable() -> None:
    tensor = torch.ones(2, dtype=torch.float64, requires_grad=True)
    _axis_map([(0, 0), (0, 1)], {0: Change((2, 1))}, reads=True).apply(tensor, 0).sum().backward()  # type: ignore[no-untyped-call]
    assert tensor.grad is not None
    assert tensor.grad.tolist() == [1, 1]
