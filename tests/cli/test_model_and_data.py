from pathlib import Path

import pytest
import torch

from fxgrow.cli.model_and_data import load_model, load_model_and_data
from fxgrow.cli.trust import TRUST_TYPED
from fxgrow.errors import ModelError
from fxgrow.training import DataChoice

DIGITS = DataChoice(name="digits", limit=20)
RESNET = "torchvision:resnet18"


@pytest.mark.parametrize(
    ("words", "data", "shape"),
    [
        ("tests.cli.models:tiny", DIGITS, (1, 8, 8)),
        ("tests.cli.models:tiny", DataChoice(name="digits", limit=20, size=12), (1, 12, 12)),
        ("tests.cli.models:unstated", DIGITS, (1, 32, 32)),
        ("tests.cli.models:unstated?input=1x10x10", DIGITS, (1, 10, 10)),
        ("torchvision:mobilenet_v3_small", DIGITS, (3, 32, 32)),
        ("torchvision:vit_b_32?image_size=64", DIGITS, (3, 64, 64)),
        (
            "tests.cli.models:tiny?num_classes=20",
            DataChoice(name="shapes", classes=20, limit=20),
            (1, 8, 8),
        ),
    ],
)
def test_the_data_fits_the_model(words: str, data: DataChoice, shape: tuple[int, ...]) -> None:
    if words.startswith("torchvision"):
        pytest.importorskip("torchvision")
    found, splits = load_model_and_data(words, data, trust=TRUST_TYPED)
    assert splits.shape == shape
    assert [tuple(each.shape) for each in found.example_inputs] == [(1, *shape)]
    assert found.model.eval()(splits.train.images[:2]).shape == (2, splits.classes)


def test_weights_follow_the_seed_and_not_the_global_generator() -> None:
    drawn = torch.get_rng_state()
    weights = [
        next(load_model("tests.cli.models:tiny", seed=seed).model.parameters())
        for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.get_rng_state(), drawn)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_saved_model_brings_its_weights_its_shape_and_its_history(grown: Path) -> None:
    found, splits = load_model_and_data(str(grown), DIGITS, trust=TRUST_TYPED)
    assert splits.shape == (1, 8, 8)
    assert len(found.history) == 1
    scaled, _ = load_model_and_data(f"directory:{grown}?width=0.5", DIGITS, trust=TRUST_TYPED)
    assert scaled.history == ()


def test_a_saved_model_takes_no_options(grown: Path) -> None:
    with pytest.raises(ModelError, match="no option 'num_classes'"):
        load_model(f"directory:{grown}?num_classes=3")


def test_classes_that_do_not_match(grown: Path) -> None:
    with pytest.raises(ModelError, match="tells 10 classes apart, but shapes has 20"):
        load_model_and_data(
            str(grown), DataChoice(name="shapes", classes=20, limit=20), trust=TRUST_TYPED
        )
