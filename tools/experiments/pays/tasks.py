"""The tasks of ``pays-small``: small networks whose neurons are scarce.

Every task gives a model of any width, batches without end, and an error that is measured on data
that neither training nor growth sees (of ``rbf`` and ``image``, where fitting the points is the
task, on the points themselves).
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fxgrow.data import load_data
from tools.experiments.pays import convolutions, language
from tools.experiments.pays.data import cifar, forever
from tools.experiments.pays.task import Batch, LossFunction, Problem, Task, mean_loss
from tools.experiments.rbf_network import RBFNetwork, Truth


def _loss_on(loss_fn: LossFunction, inputs: Tensor, targets: Tensor) -> Callable[..., float]:
    return lambda model: mean_loss(model, loss_fn, inputs, targets)


# --- A function of one number: 1,000 points of a random RBF network with 15 neurons. ---


def _rbf(seed: int) -> Problem:
    x, y = Truth().draw(seed)

    def batches() -> Iterator[Batch]:
        while True:
            yield x, y

    return Problem(batches(), F.mse_loss, _loss_on(F.mse_loss, x, y))


# --- An implicit image: from coordinates to colors by sines. ---


class Sine(nn.Module):
    """``sin(omega x)``."""

    def __init__(self, omega: float) -> None:
        super().__init__()
        self.omega = omega

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.omega * x)


def sine_network(width: int) -> nn.Module:
    """Coordinates to colors with one hidden layer of sines (Sitzmann et al. 2020, SIREN)."""
    return nn.Sequential(nn.Linear(2, width), Sine(10.0), nn.Linear(width, 3))


def _image(seed: int) -> Problem:
    pictures, _, _, _ = cifar(32)
    picture = pictures[100 + seed]  # [3, 32, 32], standardized over the data set
    along = torch.linspace(-1, 1, 32)
    rows, columns = torch.meshgrid(along, along, indexing="ij")
    x = torch.stack([rows.flatten(), columns.flatten()], 1)  # [1024, 2]
    y = picture.flatten(1).t().contiguous()  # [1024, 3]

    def batches() -> Iterator[Batch]:
        while True:
            yield x, y

    return Problem(batches(), F.mse_loss, _loss_on(F.mse_loss, x, y))


# --- Burgers' equation by its residual (Raissi et al. 2019). ---

VISCOSITY = 0.01 / torch.pi


def tanh_network(width: int) -> nn.Module:
    """(t, x) to u by two hidden layers of tanh."""
    return nn.Sequential(
        nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1)
    )


def _burgers_loss(u: Tensor, points: Tensor) -> Tensor:
    """``u_t + u u_x = nu u_xx`` inside; ``u(0, x) = -sin(pi x)`` and ``u(t, +-1) = 0`` at the edge.

    The first half of the points lies inside, the second on the edge.
    """
    inside, edge = len(points) // 2, points[len(points) // 2 :]
    (gradient,) = torch.autograd.grad(u[:inside].sum(), points, create_graph=True)
    u_t, u_x = gradient[:inside, 0], gradient[:inside, 1]
    (second,) = torch.autograd.grad(u_x.sum(), points, create_graph=True)
    residual = u_t + u[:inside, 0] * u_x - VISCOSITY * second[:inside, 1]
    # At x = +-1 the sine is 0 as well, so one formula serves the whole edge.
    at_start = -torch.sin(torch.pi * edge[:, 1]) * (edge[:, 0] == 0)
    return residual.square().mean() + (u[inside:, 0] - at_start).square().mean()


def _burgers_points(count: int, generator: torch.Generator) -> Tensor:
    inside = torch.rand(count, 2, generator=generator)
    inside[:, 1] = 2 * inside[:, 1] - 1
    start = torch.rand(count // 2, 2, generator=generator) * torch.tensor([0.0, 2.0])
    start[:, 1] -= 1
    sides = torch.rand(count - count // 2, 2, generator=generator)
    sides[:, 1] = 2 * (sides[:, 1] > 0.5).float() - 1
    return torch.cat([inside, start, sides]).requires_grad_()


def _burgers(seed: int) -> Problem:
    generator = torch.Generator().manual_seed(seed)
    held_out = _burgers_points(2000, torch.Generator().manual_seed(10_000 + seed))

    def batches() -> Iterator[Batch]:
        while True:
            points = _burgers_points(256, generator)
            yield points, points

    def error(model: nn.Module) -> float:
        return float(_burgers_loss(model(held_out), held_out))

    return Problem(batches(), _burgers_loss, error)


# --- Digits and CIFAR-10. ---


def digit_network(width: int) -> nn.Module:
    """One hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def _digits(seed: int) -> Problem:
    split = load_data("digits", size=8, channels=1)
    images, labels = split.train.images, split.train.labels
    error = _loss_on(F.cross_entropy, split.test.images, split.test.labels)
    return Problem(forever(images, labels, 64, seed), F.cross_entropy, error)


def small_convolutions(width: int) -> nn.Module:
    """Three convolutions with batch norm; fewer than 10,000 parameters at width 20."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 10),
    )


def _small_images(seed: int) -> Problem:
    images, labels, test_images, test_labels = cifar(16)
    error = _loss_on(F.cross_entropy, test_images[:5000], test_labels[:5000])
    return Problem(forever(images, labels, 64, seed), F.cross_entropy, error)


RATES = (0.001, 0.003, 0.01, 0.03)
SMALL = partial(Task, growth_ends=0.2, moments=(0.1, 0.2, 0.4), seeds=10)
SIZES = (2, 4, 6, 8, 10, 12)

TASKS = {
    task.name: task
    for task in (
        language.TASK,
        language.HEADS,
        language.DEEP,
        SMALL(
            "rbf", RBFNetwork, _rbf, tuple(range(1, 11)), 4000, (0.01, 0.02, 0.05, 0.1), seeds=20
        ),
        SMALL("image", sine_network, _image, SIZES, 3000, RATES),
        SMALL("burgers", tanh_network, _burgers, (4, 6, 8, 10, 12), 3000, RATES),
        SMALL("digits", digit_network, _digits, SIZES, 1500, RATES, seeds=20),
        SMALL("cifar", small_convolutions, _small_images, (6, 9, 12, 16), 1500, RATES),
        convolutions.PLAIN,
        convolutions.RESIDUAL,
    )
}
