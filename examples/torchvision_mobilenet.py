"""A torchvision MobileNet, trained and then grown by half its channels, in torchvision's own class.

    pip install 'fxgrow[vision,data]'
    python examples/torchvision_mobilenet.py

Scikit-learn's digits. A copy that does not grow trains on for as many epochs.
"""

import torch
from torch import nn
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3

import fxgrow
from fxgrow.data import batches, load_data

digits = load_data("digits", channels=3, size=16)
loss_fn = nn.functional.cross_entropy


def train(model: nn.Module, epochs: int, lr: float) -> str:
    """Train without any growth; the accuracy on the test images, and the size."""
    optimizer = torch.optim.AdamW(model.parameters(), lr)
    model.train()
    for _ in range(epochs):
        for images, labels in batches(digits.train, 32, shuffle=True):
            optimizer.zero_grad()
            loss_fn(model(images), labels).backward()
            optimizer.step()
    with torch.no_grad():
        right = model.eval()(digits.test.images).argmax(1) == digits.test.labels
    size = sum(parameter.numel() for parameter in model.parameters())
    return f"{right.float().mean():.1%} of the test images, {size} parameters"


def new_model() -> nn.Module:
    """MobileNet-V3 with two thin blocks instead of fifteen, one with squeeze-and-excitation."""
    # Channels in, kernel, channels inside, channels out, squeeze-and-excitation, activation.
    stages = ((4, 3, 8, 4, True, "RE"), (4, 3, 12, 6, False, "HS"))
    blocks = [
        InvertedResidualConfig(*stage, stride=2, dilation=1, width_mult=1) for stage in stages
    ]
    # Its own batch norms average over too many steps for so short a run.
    return MobileNetV3(blocks, last_channel=16, num_classes=10, norm_layer=nn.BatchNorm2d)


if __name__ == "__main__":
    torch.manual_seed(0)
    model = new_model()
    print(f"after 5 epochs: {train(model, 5, lr=5e-3)}")
    growth = fxgrow.grow(
        model, batches(digits.train, 64, limit=16), loss_fn, budget=fxgrow.Budget(neurons=0.5)
    )
    print(f"5 more, not grown: {train(model, 5, lr=2e-3)}")
    print(f"5 more, grown: {train(growth.module, 5, lr=2e-3)}")
