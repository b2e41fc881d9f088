"""A network that grows in a loop of Accelerate's, whose optimizer is a wrapper.

pip install 'fxgrow[transformers,data]'
python examples/accelerate_loop.py
"""

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fxgrow
from fxgrow.data import batches, load_data
from fxgrow.training import EveryEpochs

digits = load_data("digits", channels=1, size=8)
loss_fn = nn.functional.cross_entropy

if __name__ == "__main__":
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 10))
    data = TensorDataset(digits.train.images, digits.train.labels)
    model, optimizer, loader = accelerator.prepare(
        network,
        torch.optim.AdamW(network.parameters(), lr=3e-3),
        DataLoader(data, batch_size=32, shuffle=True),
    )
    # What Accelerate prepared wraps these two; they grow in place, so the wrappers go on.
    grower = fxgrow.Grower(
        accelerator.unwrap_model(model),
        optimizer.optimizer,
        loss_fn=loss_fn,
        when=EveryEpochs(epochs=3),
        grow_steps=3,
        budget=fxgrow.Budget(neurons=4),
    )
    for _ in range(12):
        losses = []
        for images, labels in loader:
            optimizer.zero_grad()
            loss = loss_fn(model(images), labels)
            accelerator.backward(loss)
            optimizer.step()
            losses.append(loss.detach())
        grower.step(batches(digits.train, 64), loss=float(torch.stack(losses).mean()))
    with torch.no_grad():
        right = model(digits.test.images).argmax(1) == digits.test.labels
    print(f"grown from 4 to {network[1].out_features} neurons: {right.float().mean():.1%}")
