"""Five tasks, one after the other: a master network that grows, and one that is trained on.

    pip install 'fxgrow[data]'
    python examples/continual_stream.py

Each task is two of scikit-learn's ten digits, and which task an image belongs to is known. The
master network keeps the network of every earlier task to the bit; the other one forgets.
"""

import torch
from torch import nn

from fxgrow import Budget, continual
from fxgrow.data import load_data

tasks = continual.split_classes(load_data("digits", channels=1, size=8), 5)


def convolutions(channels: int) -> nn.Module:
    """Two convolutions with batch norm, and a head of two classes."""
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(),
        nn.Conv2d(channels, channels, 3, stride=2), nn.BatchNorm2d(channels), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2),
    )  # fmt: skip


def accuracy(strategy: continual.Strategy, task: continual.Task) -> float:
    """The share of a task's test images that its network gets right."""
    with torch.no_grad():
        scores = strategy.network(task.name)(task.test.images)
    return float((scores.argmax(1) == task.test.labels).float().mean())


if __name__ == "__main__":
    torch.manual_seed(0)
    setup = continual.StrategySetup(
        thin=convolutions(8),
        full=convolutions(16),
        example_inputs=tasks[0].test.images[:2],
        master=continual.MasterSettings(train=continual.TrainSettings(epochs=8)),
        budget=Budget(neurons=0.5),
    )
    for name in ("firefly", "fine-tuning"):
        strategy = continual.STRATEGIES[name](setup)
        at_once = 0.0
        for task in tasks:
            strategy.learn(task)
            at_once += accuracy(strategy, task) / len(tasks)
        in_the_end = sum(accuracy(strategy, task) for task in tasks) / len(tasks)
        print(f"{name}: {at_once:.1%} when learned, {in_the_end:.1%} in the end, ", end="")
        print(f"{strategy.parameters} parameters")
