import pytest

from fxgrow.cells.baselines import BASELINES
from fxgrow.cells.result import SearchMethod
from tests.cells.baselines.tiny import TINY, halves


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_every_baseline_searches_the_same_space_and_gives_the_same_kind_of_result(
    name: str,
) -> None:
    small = {"epochs": 1, "batch_size": 24, "candidates": 2}
    method = BASELINES[name]
    method = method.model_copy(
        update={key: small[key] for key in small.keys() & type(method).model_fields.keys()}
    )
    search: SearchMethod = method
    result = search.search(TINY, *halves(), seed=1)
    assert result.space == TINY and result.genotype in TINY
    assert type(method).model_validate(result.settings, strict=False) == method
    assert result.method == type(method).__name__
