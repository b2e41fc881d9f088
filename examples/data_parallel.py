"""Two processes train and grow one model, each with its own half of scikit-learn's digits.

    pip install 'fxgrow[data]'
    torchrun --nproc-per-node=2 examples/data_parallel.py

What grows is decided by all images.
"""

import gc

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

import fxgrow
from fxgrow.data import DataSet, batches, load_data

digits = load_data("digits", channels=1, size=8)
loss_fn = nn.functional.cross_entropy


def train(model: nn.Module, optimizer: torch.optim.Optimizer, half: DataSet) -> str:
    """Train for six epochs; the accuracy on the test images."""
    for _ in range(6):
        for images, labels in batches(half, 16, shuffle=True):
            optimizer.zero_grad()
            loss_fn(model(images), labels).backward()
            optimizer.step()
    with torch.no_grad():
        right = model(digits.test.images).argmax(1) == digits.test.labels
    return f"{right.float().mean():.1%} of the test images"


def main() -> None:
    rank, count = distributed.get_rank(), distributed.get_world_size()
    half = DataSet(digits.train.images[rank::count], digits.train.labels[rank::count])
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 10))
    model = DistributedDataParallel(network)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    before = train(model, optimizer, half)
    data, budget = list(batches(half, 64)), fxgrow.Budget(neurons=12)
    fxgrow.grow(model, data, loss_fn, budget=budget, optimizer=optimizer, inplace=True)
    after = train(model, optimizer, half)
    weight = network[1].weight.detach()
    weights = [torch.empty_like(weight) for _ in range(count)]
    distributed.all_gather(weights, weight)
    same = "the same" if all(torch.equal(weight, one) for one in weights) else "different"
    if rank == 0:
        print(f"4 neurons, 6 epochs: {before}; grown to {network[1].out_features}, 6 more: {after}")
        print(f"the {count} processes have {same} weights")


if __name__ == "__main__":
    distributed.init_process_group("gloo")
    main()
    # Threads of a group that a wrapper in a cycle still holds could abort Python while it ends.
    gc.collect()
    distributed.destroy_process_group()
