import torch
from torch import nn

from fxgrow.continual.ownership import new_entry_masks, task_owned_tensors
from fxgrow.coupling import couple
from tests.networks import images, network


def test_private_tensors_are_the_head_norms_and_buffers() -> None:
    norms = {
        f"1.{kind}"
        for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    assert task_owned_tensors(network("chain"), "9") == norms | {"9.weight", "9.bias"}
    assert task_owned_tensors(network("block"), "head") == {
        "norm.weight",
        "norm.bias",
        "head.weight",
        "head.bias",
    }
    assert task_owned_tensors(nn.Sequential(nn.Conv2d(2, 2, 1), nn.GroupNorm(1, 2), nn.PReLU()), "0") == {
        "0.weight", "0.bias", "1.weight", "1.bias",
    }  # fmt: skip


def test_an_entry_is_new_if_one_of_its_neurons_is() -> None:
    """Neuron 1 of the first convolution, and neuron 3 of the second, which a map of 3 x 3 flattens to 9 columns."""
    module = network("chain")
    coupling = couple(module, (images(),))
    new = {
        "0": torch.tensor([False, True, False, False]),
        "4": torch.tensor([False, False, False, True]),
    }
    found = new_entry_masks(module, coupling, new)
    second = torch.zeros(4, 4, 3, 3, dtype=torch.bool)
    second[3] = True  # what writes it
    second[:, 1] = True  # what reads the first, locked neurons included
    assert torch.equal(found["4.weight"], second)
    assert found["4.bias"].tolist() == found["5.weight"].tolist() == [False, False, False, True]
    assert found["7.weight"].any(0).nonzero().reshape(-1).tolist() == list(range(27, 36))
    assert (
        found["0.weight"].flatten(1).all(1).tolist()
        == found["1.running_mean"].tolist()
        == new["0"].tolist()
    )
    assert "9.weight" not in found and "7.bias" not in found
