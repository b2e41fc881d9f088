"""A network that grows in a training loop of your own, against the same network that does not.

    python examples/plain_loop.py

Scikit-learn's digits, 4 hidden neurons at the start, AdamW. Both train equally many epochs.
"""

import torch
from torch import nn

import fxgrow
from fxgrow.data import batches, load_data
from fxgrow.training import EveryEpochs

EPOCHS = 12
digits = load_data("digits", channels=1, size=8)
loss_fn = nn.functional.cross_entropy


def train(grows: bool) -> tuple[float, nn.Module]:
    """Train, and grow if it may; the accuracy on the test images, and the network."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    grower = fxgrow.Grower(
        model,
        optimizer,
        loss_fn=loss_fn,
        when=EveryEpochs(epochs=3),
        budget=fxgrow.Budget(neurons=4),
        grow_steps=3,
    )
    for _ in range(EPOCHS):
        losses = []
        for images, labels in batches(digits.train, 32, shuffle=True):
            optimizer.zero_grad()
            loss = loss_fn(model(images), labels)
            loss.backward()
            optimizer.step()
            losses.append(float(loss))
        mean = sum(losses) / len(losses)
        if grows and grower.step(batches(digits.train, 64), loss=mean):
            print(f"  grew to {model[1].out_features} hidden neurons")
    with torch.no_grad():
        right = model(digits.test.images).argmax(1) == digits.test.labels
    return float(right.float().mean()), model


if __name__ == "__main__":
    for grows in (False, True):
        accuracy, model = train(grows)
        name = "grown" if grows else "4 neurons"
        size = sum(parameter.numel() for parameter in model.parameters())
        print(f"{name}: {accuracy:.1%} of the test images, {size} parameters")
