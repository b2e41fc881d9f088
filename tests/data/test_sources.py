import pytest

from fxgrow.data import SOURCES, load_data
from fxgrow.errors import DataError


def test_an_unknown_name_is_answered_with_the_closest_and_all() -> None:
    with pytest.raises(DataError, match=r"no data set 'digit'; did you mean 'digits'\?") as caught:
        load_data("digit")
    assert all(name in str(caught.value) for name in SOURCES)


def test_a_number_of_classes_that_the_source_does_not_have() -> None:
    with pytest.raises(DataError, match="digits has 10 classes, not 20"):
        load_data("digits", classes=20)
    assert load_data("digits", classes=10, size=8, train_size=5, test_size=5).classes == 10


@pytest.mark.parametrize("option", ["channels", "size", "classes", "train_size", "test_size"])
def test_counts_below_one_are_refused(option: str) -> None:
    arguments = {option: 0}
    with pytest.raises(DataError, match=f"{option}=0 leaves no data"):
        load_data("shapes", **arguments)  # type: ignore[arg-type]  # the options are chosen by name


def test_options_reach_the_source_and_the_images() -> None:
    splits = load_data(
        "shapes", seed=5, channels=1, size=12, classes=20, train_size=40, test_size=20
    )
    assert (splits.name, splits.shape, splits.classes) == ("shapes", (1, 12, 12), 20)
    assert (len(splits.train), len(splits.test)) == (40, 20)
    assert abs(float(splits.train.images.mean())) < 1e-5
