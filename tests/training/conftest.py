import pytest
import torch
from torch import nn

from fxgrow.data import Splits, load_data
from tools.networks import soaked


@pytest.fixture(scope="session")
def digits() -> Splits:
    """97 grey digits of 8 x 8 to train on, 360 to test on: the last training batch of 32 is a single image."""
    return load_data("digits", channels=1, size=8, train_size=97)


@pytest.fixture
def model() -> nn.Module:
    """A small classifier with batch norm and dropout."""
    torch.manual_seed(0)
    network, _ = soaked()
    return network
