"""A growth method of your own: neurons go to the narrowest width, until all are as wide.

    pip install 'fxgrow[data]'
    python examples/own_method.py

Scikit-learn's digits. Outgoing weights of 0 keep the function. One run says little of methods.
"""

from typing import Any, ClassVar

import torch
from pydantic import BaseModel
from torch import nn

import fxgrow
from fxgrow.data import batches, load_data
from fxgrow.growth import Proposal, Scores
from fxgrow.methods import ZeroOutgoing

digits = load_data("digits", channels=1, size=8)
loss_fn = nn.functional.cross_entropy


class NarrowestFirst(BaseModel, frozen=True):
    """Score the j-th new neuron of a width with n neurons by 1 / (n + j)."""

    new: int = 16  # candidates of each width
    keeps_function: ClassVar[bool] = True

    def propose(self, coupling: fxgrow.Coupling) -> Proposal:
        widths = [number for number, width in enumerate(coupling.widths) if width.growable]
        return Proposal(frozenset(), dict.fromkeys(widths, self.new))

    def search(self, grown: Any, objective: Any, generator: Any, choose: Any) -> Scores:
        start = ZeroOutgoing().search(grown, objective, generator, choose)  # draws the new weights
        for number, places in grown.candidates.new.items():
            start.new[places] = 1 / (grown.coupling.widths[number].size + torch.arange(self.new))
        return Scores(start.split, start.new, per_cost=False)

    def refine(self, grown: Any, objective: Any) -> None:
        """Do nothing: training moves the new neurons."""


if __name__ == "__main__":
    for method in (fxgrow.Auto(), NarrowestFirst()):
        torch.manual_seed(0)
        first = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.ReLU())
        model = first.extend([nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 10)])
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        how = {"method": method, "budget": fxgrow.Budget(neurons=16), "inplace": True}
        for epoch in range(16):
            if epoch == 8:
                fxgrow.grow(model, batches(digits.train, 64), loss_fn, optimizer=optimizer, **how)
            for images, labels in batches(digits.train, 32, shuffle=True):
                optimizer.zero_grad()
                loss_fn(model(images), labels).backward()
                optimizer.step()
        right = (model(digits.test.images).argmax(1) == digits.test.labels).float().mean()
        sizes = f"3 -> {model[1].out_features} and 16 -> {model[3].out_features} neurons"
        print(f"{type(method).__name__}: {sizes}, {right:.1%} of the test images")
