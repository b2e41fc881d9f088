"""1,797 real handwritten digits of 8 x 8 pixels, bundled with scikit-learn (UCI Optical Recognition of Digits)."""

import torch

from fxgrow.data.request import Request
from fxgrow.data.sets import DataSet, RawSplits
from fxgrow.errors import DataError
from fxgrow.optional import require

TEST_SHARE = 0.2
# One split for everybody, whatever the run's seed: accuracies of different seeds must be about the same test images.
SPLIT_SEED = 0
_MAX_PIXEL = 16.0


def digits(request: Request) -> RawSplits:
    """Grey 1 x 8 x 8 images from 0 to 1, ten classes: 1,437 to train on and 360 to test on, stratified."""
    datasets = require("sklearn.datasets", extra="data", error=DataError)
    selection = require("sklearn.model_selection", extra="data", error=DataError)
    pixels, labels = datasets.load_digits(return_X_y=True)
    everything = DataSet(
        torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / _MAX_PIXEL,
        torch.tensor(labels, dtype=torch.int64),
    )
    train, test = selection.train_test_split(
        range(len(labels)), test_size=TEST_SHARE, random_state=SPLIT_SEED, stratify=labels
    )
    return RawSplits(
        train=everything.pick(train).first(request.train_size),
        test=everything.pick(test).first(request.test_size),
        classes=10,
    )
