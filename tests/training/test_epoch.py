import math

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.optim import SGD

from fxgrow.errors import DataError, TrainingError
from fxgrow.training import train_epoch


def test_one_epoch_is_the_hand_written_loop() -> None:
    torch.manual_seed(0)
    model, twin = nn.Linear(3, 1), nn.Linear(3, 1)
    twin.load_state_dict(model.state_dict())
    batches = [(torch.randn(4, 3), torch.randn(4, 1)) for _ in range(5)]
    heard: list[tuple[int, float]] = []
    mean = train_epoch(
        model.eval(),
        batches,
        mse_loss,
        SGD(model.parameters(), lr=0.1),
        on_step=lambda *step: heard.append(step),
    )
    optimizer = SGD(twin.parameters(), lr=0.1)
    losses = []
    for inputs, target in batches:
        loss = mse_loss(twin(inputs), target)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert torch.equal(model.weight, twin.weight)
    assert model.training
    assert heard == list(enumerate(losses))
    assert mean == sum(losses) / 5


def test_gradients_are_clipped_to_a_total_norm() -> None:
    """A step of SGD at rate 1 moves all weights together by the norm of their gradients."""
    torch.manual_seed(0)
    batches = [(torch.randn(4, 3), torch.randn(4, 1))]
    lengths = []
    for clip in (None, 1e9, 0.25):
        torch.manual_seed(1)
        model = nn.Linear(3, 1)
        before = torch.cat([p.detach().clone().flatten() for p in model.parameters()])
        train_epoch(model, batches, mse_loss, SGD(model.parameters(), lr=1.0), clip=clip)
        after = torch.cat([p.detach().flatten() for p in model.parameters()])
        lengths.append(float((after - before).norm()))
    assert lengths[0] == lengths[1] > 0.3
    assert lengths[2] == pytest.approx(0.25, rel=1e-4)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_never_reaches_the_weights(value: float) -> None:
    model = nn.Linear(1, 1)
    before = model.weight.detach().clone()
    batches = [(torch.full((2, 1), value), torch.zeros(2, 1))]
    with pytest.raises(
        TrainingError, match=r"at batch 1 .* lower the learning rate \(it is 0.25 now\)"
    ) as caught:
        train_epoch(model, batches, mse_loss, SGD(model.parameters(), lr=0.25))
    assert caught.value.code == "nan-loss"
    assert torch.equal(model.weight, before)


def test_no_batches() -> None:
    model = nn.Linear(1, 1)
    with pytest.raises(DataError, match="no image to train on"):
        train_epoch(model, [], mse_loss, SGD(model.parameters(), lr=0.1))
