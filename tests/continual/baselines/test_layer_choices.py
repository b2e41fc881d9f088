import torch
from torch import nn
from torch.nn import functional as F

from fxgrow.continual.baselines.common import num_parameters
from fxgrow.continual.baselines.layer_choices import (
    AdaptedVersion,
    LayerMixture,
    NewVersion,
    ReusedVersion,
    layer_options,
)


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def noisy(part: nn.Module) -> nn.Module:
    for parameter in part.parameters():
        parameter.data = torch.randn(parameter.shape, generator=rng(), dtype=torch.float64)
    return part


def test_an_adapter_is_a_convolution_beside_the_old_one() -> None:
    weight = torch.randn(4, 3, 3, 3, generator=rng(), dtype=torch.float64)
    x = torch.randn(2, 6, 5, 5, generator=rng(), dtype=torch.float64)
    part = AdaptedVersion(weight, 1, rng())
    assert torch.equal(part(), weight) and num_parameters(part) == 12
    noisy(part)
    beside = F.conv2d(x, part.out[:, :, None, None], stride=2, groups=2)
    old = F.conv2d(x, weight, stride=2, padding=1, groups=2)
    assert torch.allclose(
        F.conv2d(x, part(), stride=2, padding=1, groups=2), old + beside, atol=1e-12
    )


def test_an_adapter_of_a_linear_layer_has_a_low_rank() -> None:
    for shape in ((6, 5), (6, 5, 1, 1)):
        weight = torch.randn(shape, generator=rng(), dtype=torch.float64)
        part = AdaptedVersion(weight, 2, rng())
        assert torch.equal(part(), weight) and num_parameters(part) == 2 * 11
        added = (noisy(part)() - weight).detach()
        assert added.shape == shape and torch.linalg.matrix_rank(added.flatten(1)) == 2
    assert num_parameters(AdaptedVersion(torch.zeros(6, 3), 4, rng())) == 3 * 9


def test_choices_reuse_or_adapt_every_version_or_are_new() -> None:
    versions = [torch.randn(3, 2, 3, 3, generator=rng()), torch.ones(3, 2, 3, 3)]
    found = layer_options(versions, 1, rng())
    assert [type(part) for part in found] == [
        ReusedVersion,
        ReusedVersion,
        AdaptedVersion,
        AdaptedVersion,
        NewVersion,
    ]
    assert [num_parameters(part) for part in found] == [0, 0, 6, 6, 54]
    assert all(
        torch.equal(part(), version)
        for part, version in zip(found, [*versions, *versions, versions[1]], strict=True)
    )
    assert found[0].weight is versions[0] and found[4].weight is not versions[1]


def test_a_mixture_is_the_mean_of_the_layers_and_of_what_they_add() -> None:
    versions = [torch.randn(3, 2, 3, 3, generator=rng(), dtype=torch.float64)]
    mixture = LayerMixture([noisy(part) for part in layer_options(versions, 1, rng())])
    assert mixture.best == 0
    with torch.no_grad():
        mixture.preference.copy_(torch.tensor([0.0, 0.5, 1.0]))
    shares = torch.tensor([0.0, 0.5, 1.0]).softmax(0)
    x = torch.randn(2, 2, 5, 5, generator=rng(), dtype=torch.float64)
    each = [
        share * F.conv2d(x, part()) for share, part in zip(shares, mixture.options, strict=True)
    ]
    assert torch.allclose(F.conv2d(x, mixture()), sum(each), atol=1e-6)
    assert torch.allclose(mixture.added(), shares @ torch.tensor([0.0, 6, 54]))
    assert mixture.best == 2
