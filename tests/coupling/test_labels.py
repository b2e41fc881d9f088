import numpy as np

from fxgrow.coupling.labels import FIXED, Labels, components, touching_fixed


def test_fresh_labels_are_consecutive_and_never_fixed() -> None:
    labels = Labels()
    assert labels.new(3).tolist() == [1, 2, 3]
    assert labels.new(2).tolist() == [4, 5]


def test_components_without_unions_are_the_labels() -> None:
    assert components(4, []).tolist() == [0, 1, 2, 3]


def test_unions_are_transitive_and_fixed_unites_nothing() -> None:
    pairs = [(np.array([1, 2]), np.array([2, 3])), (np.array([4, FIXED]), np.array([FIXED, 5]))]
    classes = components(6, pairs)
    assert classes[1] == classes[2] == classes[3]
    assert len({classes[label] for label in (FIXED, 1, 4, 5)}) == 4
    assert touching_fixed(pairs).tolist() == [4, 5]


def test_a_pin_leaves_fixed_out() -> None:
    labels = Labels()
    labels.pin(np.array([FIXED, 3]), "sliced", "why", "where")
    assert labels.pins[0].labels.tolist() == [3]
