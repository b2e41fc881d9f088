"""``pays-conv``: CIFAR-10 by convolutions with batch norm that grow from 8 to 16 and 32 channels.

Six plain convolutions, and a ResNet of three blocks (He et al. 2016). Every seed has training images of
its own, so few of them that two processor cores see their errors level off.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tools.experiments.pays.data import cifar, flipped, forever, share_wrong
from tools.experiments.pays.task import Problem, Task, mean_loss

SIZE = 16
"""Height and width of the images."""
NUM_TRAIN = 10_000
NUM_JUDGED = 5_000
BATCH = 64
ARMS = ("firefly", "pool", "random", "zero", "net2net", "scratch", "narrow")
TUNING_SEED = 900


def six_convolutions(width: int) -> nn.Module:
    """Six 3 x 3 convolutions, the images halved after each two."""
    layers: list[nn.Module] = []
    channels = 3
    for number in range(6):
        layers += [
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        if number in (1, 3):
            layers.append(nn.MaxPool2d(2))
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


class Block(nn.Module):
    """Two convolutions beside a way around them."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(h)) + self.shortcut(x))


def small_resnet(width: int) -> nn.Module:
    """A first convolution and three blocks of two."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        Block(width, 1),
        Block(width, 2),
        Block(width, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 10),
    )


def problem(seed: int) -> Problem:
    """The error is the share of images that are classified wrong."""
    images, labels, test_images, test_labels = cifar(SIZE)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    chosen, held_out = order[:NUM_TRAIN], order[-NUM_JUDGED:]
    judged = test_images[:NUM_JUDGED], test_labels[:NUM_JUDGED]
    if seed == TUNING_SEED:  # so that the test images choose no learning rate
        judged = images[held_out], labels[held_out]

    def error(model: nn.Module) -> float:
        return mean_loss(model, share_wrong, *judged)

    train = flipped(forever(images[chosen], labels[chosen], BATCH, seed), seed)
    return Problem(train, F.cross_entropy, error)


PLAIN = Task(
    "conv",
    six_convolutions,
    problem,
    widths=(8, 16, 32),
    steps=4000,
    rates=(0.001, 0.003, 0.01),
    arms=ARMS,
    tuning_steps=1000,
    tuning_seeds=(TUNING_SEED,),
)
RESIDUAL = replace(PLAIN, name="resnet", make=small_resnet)
