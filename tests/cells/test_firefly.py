"""Search by growth, small."""

from typing import Any

import pytest
import torch

from fxgrow import NewEntryRate
from fxgrow.cells import SearchSpace
from fxgrow.cells.firefly import FireflySearch
from fxgrow.cells.result import SEARCH_DOCUMENT, SearchEpoch, SearchResult
from fxgrow.data import DataSet, load_data
from fxgrow.growth import Growth, grow_step
from fxgrow.methods import Firefly
from fxgrow.surgery import DEFAULT_STATE

SPACE = SearchSpace(operations=("skip_connect", "sep_conv_3x3"), nodes=1, cells=3, channels=2)
GROWTH = Firefly(new=1, steps=2, refine_steps=1)
METHOD = FireflySearch(
    epochs=3, grow_every=2, batch_size=16, growth_batches=1, neurons=0.25, method=GROWTH
)


@pytest.fixture(scope="module")
def images() -> tuple[DataSet, DataSet]:
    digits = load_data("digits", size=8, train_size=48, test_size=16)
    return digits.train, digits.test


@pytest.fixture(scope="module")
def heard(images: tuple[DataSet, DataSet]) -> list[SearchEpoch]:
    return []


@pytest.fixture(scope="module")
def result(images: tuple[DataSet, DataSet], heard: list[SearchEpoch]) -> SearchResult:
    return METHOD.search(SPACE, *images, callback=heard.append)


def test_it_trains_grows_and_reads_off(result: SearchResult, heard: list[SearchEpoch]) -> None:
    assert [epoch.epoch for epoch in heard] == [1, 2, 3]
    assert result.genotype in SPACE and result.genotype == heard[-1].genotype
    assert [grown.epoch for grown in result.grown] == [0, 2]
    before, after = (sum(grown.channels.values()) for grown in result.grown)
    assert before == 2 * len(result.grown[0].channels) < after
    assert result.grown[1].faithful_error is not None and result.grown[1].faithful_error < 1e-4


def test_what_it_spends_is_counted(result: SearchResult, heard: list[SearchEpoch]) -> None:
    plain = heard[0].multiply_adds
    assert heard[1].multiply_adds - plain > 2 * plain, "growth costs more than an epoch of training"
    assert plain < heard[2].multiply_adds - heard[1].multiply_adds < 3 * plain, (
        "a grown template costs more"
    )
    assert result.multiply_adds == heard[2].multiply_adds


def test_the_same_seed_gives_the_same_cells(
    images: tuple[DataSet, DataSet], result: SearchResult
) -> None:
    before = torch.random.get_rng_state()
    again = METHOD.search(SPACE, *images)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [epoch.train_loss for epoch in again.epochs] == [
        epoch.train_loss for epoch in result.epochs
    ]
    assert again.grown[1].channels == result.grown[1].channels


def test_the_optimizer_goes_on_by_the_rule(
    images: tuple[DataSet, DataSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """New entries count their own steps under one setting, and have their own rate by the other."""
    groups: list[dict[str, Any]] = []

    def watched(*args: Any, **options: Any) -> Growth:
        growth = grow_step(*args, **options)
        assert growth.optimizer is not None
        groups.extend(growth.optimizer.param_groups)
        return growth

    monkeypatch.setattr("fxgrow.cells.firefly.grow_step", watched)
    rate = NewEntryRate(multiplier=8.0)
    settings = {"epochs": 1, "grow_every": 1, "state": "own-age", "new_entry_rate": rate}
    METHOD.model_copy(update=settings).search(SPACE, *images)
    cohorts = [one for group in groups for of in group["grown_entries"].values() for one in of]
    assert cohorts
    for cohort in cohorts:
        assert cohort["own"] is not None and cohort["rate"] == rate.model_dump()


def test_the_rule_can_be_written_and_read() -> None:
    search = FireflySearch(state="own-age", new_entry_rate=NewEntryRate(half_life=None))
    assert FireflySearch.model_validate_json(search.model_dump_json()) == search
    assert (FireflySearch().state, FireflySearch().new_entry_rate) == (DEFAULT_STATE, None)


def test_it_can_be_written_and_read(result: SearchResult) -> None:
    assert SEARCH_DOCUMENT.read(result.model_dump_json()) == result
