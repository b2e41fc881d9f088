"""A space and data that a test can search in."""

import torch
from torch import Tensor

from fxgrow.cells.baselines import Mixture, Supernet
from fxgrow.cells.baselines.supernet import CellChoices
from fxgrow.cells.space import SearchSpace
from fxgrow.cells.stack import CellKind
from fxgrow.data import DataSet, load_data

TINY = SearchSpace(
    operations=("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"),
    nodes=2,
    cells=3,
    channels=4,
)


def halves(count: int = 24) -> tuple[DataSet, DataSet]:
    """Grey digits of 8 x 8 to train and to judge on."""
    data = load_data("digits", channels=1, size=8, train_size=2 * count).train
    return data.first(count), data.pick(range(count, 2 * count))


def supernet(space: SearchSpace = TINY, seed: int = 0) -> Supernet:
    torch.manual_seed(seed)
    return Supernet(space, classes=10, image_channels=1)


def mixture(weights: Tensor, space: SearchSpace = TINY) -> CellChoices:
    """The same weights for both kinds of cell."""
    return dict.fromkeys(CellKind, Mixture.of(space, weights))
