"""What a model's own code combines in training mode alone grows together."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow.coupling.training_code import reads_training_mode
from tests.coupling.models import shuffled

X = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.double)


class Momentum(nn.Module):
    """A second encoder that follows the first one in training (He et al. 2020, MoCo)."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4))
        self.key = copy.deepcopy(self.query).requires_grad_(False)

    @torch.no_grad()
    def update(self) -> None:
        pairs = zip(self.query.parameters(), self.key.parameters(), strict=True)
        for query, key in pairs:
            self.follow(query, key)

    def follow(self, query: Tensor, key: Tensor) -> None:
        key.data = 0.9 * key.data + 0.1 * query.data

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.update()
        return self.query(x) @ self.key(x).t()


class MomentumInPlace(Momentum):
    def follow(self, query: Tensor, key: Tensor) -> None:
        key.data.mul_(0.9).add_(query.data, alpha=0.1)


class MomentumByCopy(Momentum):
    def follow(self, query: Tensor, key: Tensor) -> None:
        key.copy_(torch.lerp(key, query, 0.1))


class AveragedWeights(nn.Module):
    """Applies a moving average of its weights in evaluation mode."""

    average: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 6), nn.Linear(6, 3)
        self.register_buffer("average", torch.randn(6, 5))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.average.lerp_(self.first.weight.detach(), 0.1)
            return self.last(torch.tanh(self.first(x)))
        return self.last(torch.tanh(F.linear(x, self.average, self.first.bias)))


class Center(nn.Module):
    """Takes the moving average of its features off them."""

    center: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 6), nn.Linear(6, 3)
        self.register_buffer("center", torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        if self.training:
            self.center = 0.9 * self.center + 0.1 * h.detach().mean(0)
        return self.last(h - self.center)


@pytest.mark.parametrize(
    "kind", [Momentum, MomentumInPlace, MomentumByCopy, AveragedWeights, Center]
)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("how", ["split", "new"])
def test_every_width_grows_alone_and_training_goes_on(
    kind: Callable[[], nn.Module], training: bool, how: str
) -> None:
    model = kind().double().train(training)
    growing = [width.name for width in fxgrow.couple(model, X).widths if width.growable]
    assert growing
    for name in growing:
        wider = fxgrow.widen(model, {name: 2}, X, how=how).module
        before, after = copy.deepcopy(model).train(), copy.deepcopy(wider).train()
        for _ in range(2):  # what the first call writes is read by the second
            torch.testing.assert_close(after(X), before(X), rtol=0, atol=1e-12)


def test_a_momentum_encoder_is_of_the_widths_of_its_encoder() -> None:
    widths = fxgrow.couple(Momentum(), X.float()).by_name
    parameters = {site.parameter for site in widths["query.0"].sites}
    assert {"query.0.weight", "key.0.weight", "key.2.weight"} <= parameters


def test_a_frozen_momentum_encoder_is_named() -> None:
    batches = [(X, torch.zeros(3, 3, dtype=X.dtype))]
    with pytest.raises(fxgrow.GrowthError, match=r"key\.0\.\w+ writes it and is frozen"):
        fxgrow.grow(Momentum().double(), batches, F.mse_loss)
    grown = fxgrow.grow(
        Momentum().double(), batches, F.mse_loss, grow_frozen=True, accept_no_gain=True
    ).module
    assert grown.train()(X).shape == (3, 3)


def test_layers_of_torch_and_those_without_tensors_do_not_ask() -> None:
    class DropPath(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.rand(1) if self.training else x

    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(), DropPath())
    assert not reads_training_mode(model)
    assert reads_training_mode(nn.Sequential(model, Momentum()))


@pytest.mark.parametrize("where", ["decorated", "property", "nested", "class method"])
def test_the_mode_is_found_wherever_it_is_named(where: str) -> None:
    class Asks(nn.Linear):
        if where == "decorated":

            @torch.no_grad()
            def method(self) -> bool:
                return self.training

        elif where == "property":

            @property
            def mode(self) -> bool:
                return self.training

        elif where == "nested":

            def method(self) -> bool:
                return any(module.training for module in self.modules())

        else:

            @classmethod
            def method(cls, module: nn.Module) -> bool:
                return module.training

    assert reads_training_mode(Asks(2, 3))


def test_sizes_in_attributes_follow_as_they_do_in_one_mode() -> None:
    """Once more the same grids and reshapes would make it unclear what an attribute counts."""
    transformers = pytest.importorskip("transformers")
    config = transformers.OpenAIGPTConfig(
        vocab_size=20, n_positions=8, n_embd=16, n_layer=2, n_head=2
    )
    model = transformers.OpenAIGPTModel(config).eval()
    widths = fxgrow.couple(model, torch.randint(20, (2, 7))).by_name
    heads = [width for name, width in widths.items() if name.endswith("attn.c_attn")]
    assert [(width.size, width.growable) for width in heads] == [(2, True), (2, True)]


class Shuffled(nn.Module):
    """Channels whose order is known from a run of the grown model alone."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(5, 4, 1), nn.Conv2d(5, 4, 1)
        self.c, self.d = nn.Conv2d(8, 8, 1, groups=2), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.d(self.c(shuffled(torch.cat([self.a(x), self.b(x)], 1), 4)))


class ShuffledOtherwiseInTraining(Shuffled):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (2.0 if self.training else 1.0)


class ShuffledOnceMoreInTraining(Shuffled):
    """The same line makes more grids in training."""

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out + super().forward(x.flip(0)) if self.training else out


def test_shuffled_channels_grow_as_they_do_in_one_mode() -> None:
    x = torch.randn(2, 5, 4, 4, dtype=torch.double)
    found = []
    for kind in (Shuffled, ShuffledOtherwiseInTraining, ShuffledOnceMoreInTraining):
        model = kind().double()
        widths = fxgrow.couple(model, x).widths
        found.append([(width.name, width.size, width.growable) for width in widths])
        amounts = {width.name: 2 for width in widths if width.growable}
        wider = fxgrow.widen(model, amounts, x).module
        for mode in (False, True):
            expected = model.train(mode)(x)
            torch.testing.assert_close(wider.train(mode)(x), expected, rtol=0, atol=1e-12)
    assert found[0] == found[1] == found[2]
    assert ("a", 1, True) in found[0]
