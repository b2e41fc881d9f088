"""1,797 real handwritten digits of 8 x 8 pixels, bundled with scikit-learn.

Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI repository, 1998.
"""

import torch

from fxgrow.data.request import Request
from fxgrow.data.sets import DataSet, RawSplits
from fxgrow.errors import DataError
from fxgrow.optional import require

TEST_SHARE = 0.2
# The same split for every seed of a run: accuracies of several seeds must be about the same test
# images to be comparable.
SPLIT_SEED = 0
_MAX_PIXEL = 16.0  # scikit-learn counts the dark pixels of 4 x 4 blocks: 0 to 16


def digits(request: Request) -> RawSplits:
    """Load the digits: gray images [N, 1, 8, 8] from 0 to 1, ten classes.

    1,437 images are for training and 360 for testing; the split is stratified by class.

    Args:
        request: ``train_size`` and ``test_size`` limit the number of images; the rest is unused.

    Raises:
        DataError: ``missing-extra`` if scikit-learn is not installed.
    """
    datasets = require("sklearn.datasets", extra="data", error=DataError)
    selection = require("sklearn.model_selection", extra="data", error=DataError)
    pixels, labels = datasets.load_digits(return_X_y=True)  # [1797, 64] and [1797]
    images = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / _MAX_PIXEL
    dataset = DataSet(images, torch.tensor(labels, dtype=torch.int64))
    train, test = selection.train_test_split(
        range(len(labels)), test_size=TEST_SHARE, random_state=SPLIT_SEED, stratify=labels
    )
    return RawSplits(
        train=dataset.pick(train).first(request.train_size),
        test=dataset.pick(test).first(request.test_size),
        classes=10,
    )
