"""An operator of your own gets a rule, and the models that use it grow through it.

    pip install 'fxgrow[data]'
    python examples/own_operator.py

The operator is elementwise, which only its author can know. Scikit-learn's digits.
"""

import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.coupling.rules import pointwise
from fxgrow.data import batches, load_data

digits = load_data("digits", channels=1, size=8)
loss_fn = nn.functional.cross_entropy


@torch.library.custom_op("examples::soft_clip", mutates_args=())
def soft_clip(x: Tensor) -> Tensor:
    """Squeeze every number into (-1, 1)."""
    return x / (1 + x.abs())


soft_clip.register_fake(torch.empty_like)
soft_clip.register_autograd(
    lambda ctx, grad: grad / (1 + ctx.saved_tensors[0].abs()) ** 2,
    setup_context=lambda ctx, inputs, **_: ctx.save_for_backward(*inputs),
)


class SoftClip(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return soft_clip(x)


def train(model: nn.Module, epochs: int) -> str:
    """Train; the accuracy on the test images."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for images, labels in batches(digits.train, 32, shuffle=True):
            optimizer.zero_grad()
            loss_fn(model(images), labels).backward()
            optimizer.step()
    with torch.no_grad():
        right = model(digits.test.images).argmax(1) == digits.test.labels
    return f"{right.float().mean():.1%}"


if __name__ == "__main__":
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), SoftClip(), nn.Linear(4, 10))
    print(f"without a rule: {fxgrow.couple(model, digits.test.images[:2]).widths[0].refusal.code}")
    fxgrow.register_rule("examples::soft_clip", pointwise)
    print(f"4 neurons, 8 epochs: {train(model, 8)} of the test images")
    data, budget = batches(digits.train, 64), fxgrow.Budget(neurons=12)
    grown = fxgrow.grow(model, data, loss_fn, budget=budget).module
    print(f"8 more epochs: not grown {train(model, 8)}, grown to 16 {train(grown, 8)}")
