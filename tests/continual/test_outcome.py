import torch

from fxgrow.continual.outcome import WidthUse, task_outcome
from fxgrow.continual.shared_network import NEW_NEURON, SharedNetwork, TaskNetwork
from fxgrow.continual.task_training import TrainedTask
from tests.networks import images, network


def test_neurons_are_counted_where_they_come_from() -> None:
    """Four of six are used, one of them as a copy, and two are new."""
    union = SharedNetwork.of(network("block"), (images(),))
    origin = torch.tensor([0, 2, 3, 5, NEW_NEURON, NEW_NEURON])
    draft = TaskNetwork(
        union.module,
        {"up": origin},
        {"up": torch.tensor([False, True, False, False, False, False])},
    )
    outcome = task_outcome(
        "a", 2, TrainedTask(draft, tried=0.5, growing_epochs=3.5), union, 1000, 0.75
    )
    assert outcome.widths == {"up": WidthUse(locked=3, unlocked=1, new=2, master=6)}
    assert outcome.widths["up"].used == 6
    assert (outcome.tried, outcome.accuracy, outcome.growing_epochs, outcome.parameters) == (
        0.5,
        0.75,
        3.5,
        1000,
    )
    assert outcome.loss_before is None and outcome.loss_after is None
    assert outcome.network_parameters == 16 + 8 + 30 + 28 + 10
    # 3 images of 36 tokens through 3 x 4, 4 x 6 and 6 x 4, and one mean of them through 4 x 2.
    assert outcome.multiply_adds == 3 * (36 * 60 + 8)
