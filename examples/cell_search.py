"""Cells found by growth: channels inside operations grow, and the operations that got most stay.

    pip install 'fxgrow[data]'
    python examples/cell_search.py

Scikit-learn's digits. Cells drawn at random, which cost no search, are trained for as long. So
short a comparison says little; docs/results has one that says more.
"""

import torch
from torch import nn

from fxgrow.cells import SEARCHES, FireflySearch, Genotype, SearchSpace, evaluation_network, to_text
from fxgrow.data import batches, load_data

digits = load_data("digits", size=8, train_size=800)
space = SearchSpace(
    operations=("skip_connect", "sep_conv_3x3", "max_pool_3x3"), nodes=2, cells=3, channels=4
)


def trained(genotype: Genotype) -> str:
    """Stack the cells, train them with fresh weights; the accuracy on the test images."""
    torch.manual_seed(0)
    network = evaluation_network(genotype, channels=8, layers=3)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(4):
        for images, labels in batches(digits.train, 64, shuffle=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
    with torch.no_grad():
        right = network.eval()(digits.test.images).argmax(1) == digits.test.labels
    size = sum(parameter.numel() for parameter in network.parameters())
    return f"{right.float().mean():.1%} of the test images, {size} parameters"


if __name__ == "__main__":
    search = FireflySearch(epochs=4, grow_every=2, batch_size=64)
    # Neither search looks at the images that are kept to validate on.
    found = search.search(space, digits.train, digits.train)
    drawn = SEARCHES["random"].search(space, digits.train, digits.train)
    before, *_, after = (sum(step.channels.values()) for step in found.grown)
    print(f"channels inside operations: {before} -> {after} in {found.seconds:.0f} s of search")
    print(to_text(found.genotype))
    print(f"found by growth: {trained(found.genotype)}")
    print(f"drawn at random: {trained(drawn.genotype)}")
