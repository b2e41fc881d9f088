"""A bigger model of the same family starts with the function of a smaller one."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow.errors import GrowthError
from tests.networks import randomised

WORDS, TIME = 9, 4


class Block(nn.Module):
    def __init__(self, size: int, heads: int, hidden: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = norm(size), norm(size)
        self.qkv, self.out = nn.Linear(size, 3 * heads * 2), nn.Linear(heads * 2, size)
        self.up, self.down = nn.Linear(size, hidden), nn.Linear(hidden, size)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, _ = x.shape
        q, k, v = self.qkv(self.before(x)).chunk(3, -1)
        q, k, v = (one.view(batch, time, self.heads, 2).transpose(1, 2) for one in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, time, -1))
        return x + self.down(F.gelu(self.up(self.between(x))))


class GPT(nn.Module):
    def __init__(
        self,
        size: int = 6,
        heads: int = 2,
        hidden: int = 5,
        words: int = WORDS,
        blocks: int = 2,
        norm: type[nn.Module] = nn.LayerNorm,
    ) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, size), nn.Parameter(torch.randn(TIME, size))
        self.blocks = nn.Sequential(*(Block(size, heads, hidden, norm) for _ in range(blocks)))
        self.last, self.head = norm(size), nn.Linear(size, words, bias=False)
        self.head.weight = self.words.weight

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.last(self.blocks(self.words(words) + self.places)))


def words(seed: int = 0, batch: int = 2) -> Tensor:
    return torch.randint(WORDS, (batch, TIME), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
def test_stream_heads_and_hidden_widths_at_once(norm: type[nn.Module]) -> None:
    small, like = randomised(GPT(norm=norm)), GPT(size=11, heads=5, hidden=9, norm=norm)
    numbers = copy.deepcopy(like.state_dict())
    bigger = fxgrow.grow_to(small, like=like, example_inputs=words())
    assert type(bigger.module) is GPT
    assert bigger.module.blocks[0].heads == 5
    shapes = {name: tensor.shape for name, tensor in bigger.module.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in like.state_dict().items()}
    assert bigger.module.head.weight is bigger.module.words.weight
    other = words(seed=1, batch=3)
    torch.testing.assert_close(bigger.module(other), small(other), rtol=1e-12, atol=1e-12)
    assert all(torch.equal(numbers[name], value) for name, value in like.state_dict().items())


def test_widths_and_blocks_at_once() -> None:
    small, like = randomised(GPT()), GPT(size=11, heads=5, hidden=9, blocks=4)
    bigger = fxgrow.grow_to(small, like=like, example_inputs=words())
    assert bigger.new_blocks == {"blocks.2": "blocks.1", "blocks.3": "blocks.1"}
    assert bigger.sizes["words"] == 6 and bigger.amounts["words"] == 5
    other = words(seed=1, batch=3)
    torch.testing.assert_close(bigger.module(other), small(other), rtol=1e-12, atol=1e-12)
    for block in bigger.module.blocks[2:]:
        assert not block.out.weight.any() and not block.down.weight.any() and block.up.weight.any()


def test_blocks_alone() -> None:
    small, like = randomised(GPT()), GPT(blocks=3)
    bigger = fxgrow.grow_to(small, like, words())
    assert bigger.amounts == {} and list(bigger.new_blocks) == ["blocks.2"]
    assert torch.equal(bigger.module(words(seed=1)), small(words(seed=1)))
    assert len(small.blocks) == 2 and bigger.module is not like


class Branch(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(Block(4, 2, 3, nn.LayerNorm) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def test_lists_inside_of_blocks() -> None:
    def network(outer: int, inner: int) -> nn.Module:
        branches = (Branch(inner) for _ in range(outer))
        return nn.Sequential(nn.Linear(2, 4), nn.Sequential(*branches))

    small, x = randomised(network(1, 1)), torch.randn(2, 3, 2, dtype=torch.float64)
    bigger = fxgrow.grow_to(small, network(2, 3), x)
    assert len(bigger.new_blocks) == 5
    torch.testing.assert_close(bigger.module(x), small(x), rtol=1e-12, atol=1e-12)


class PostNorm(GPT):
    """BERT's order: the stream is what a norm gives."""

    def __init__(self, size: int = 6, hidden: int = 5) -> None:
        super().__init__(size, hidden=hidden)
        self.head = nn.Linear(size, WORDS)

    def forward(self, words: Tensor) -> Tensor:
        x = self.words(words) + self.places
        for block in self.blocks:
            x = block.before(x + block.down(F.gelu(block.up(x))))
            x = block.between(x + block.out(torch.tanh(block.qkv(x)[..., :4])))
        return self.head(self.last(x))


def test_a_stream_without_a_rule_is_doubled() -> None:
    small = randomised(PostNorm())
    bigger = fxgrow.grow_to(small, PostNorm(size=12, hidden=7), words()).module
    other = words(seed=1)
    torch.testing.assert_close(bigger(other), small(other), rtol=1e-12, atol=1e-12)


def test_blocks_without_a_rule_are_refused() -> None:
    like = PostNorm()
    like.blocks.append(Block(6, 2, 5, nn.LayerNorm))
    with pytest.raises(GrowthError) as refusal:
        fxgrow.grow_to(randomised(PostNorm()), like, words())
    assert refusal.value.code == "not-residual"


def test_one_width_alone() -> None:
    small = randomised(GPT())
    bigger = fxgrow.grow_to(small, GPT(hidden=7), words()).module
    other = words(seed=1)
    torch.testing.assert_close(bigger(other), small(other), rtol=1e-12, atol=1e-12)


def test_channels_of_a_convolutional_network() -> None:
    def network(width: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, 3),
        )  # fmt: skip

    small, x = randomised(network(4)), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    bigger = fxgrow.grow_to(small, network(7), x).module
    torch.testing.assert_close(bigger(x), small(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (GPT(), "same shapes already"),
        (GPT(hidden=4), r"axis 0 of blocks\.0\.up\.weight \(5 entries\) is smaller"),
        (GPT(blocks=1), "only one of them has blocks.1"),
        (nn.Linear(2, 2), "only one of them has"),
    ],
)
def test_another_family_is_refused(like: nn.Module, message: str) -> None:
    with pytest.raises(GrowthError, match=message) as refusal:
        fxgrow.grow_to(randomised(GPT()), like, words())
    assert refusal.value.code == "unlike-models"


class Positions(nn.Module):
    """A table that is added to its input."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.table, self.layer = nn.Parameter(torch.zeros(count, 5)), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x + self.table[: x.shape[1]])


def test_what_is_no_width_at_all_is_refused_with_the_reason_of_its_axis() -> None:
    x = torch.randn(2, 3, 5, dtype=torch.float64)
    with pytest.raises(GrowthError, match=r"axis 0 of table \(4 entries\) is no width: \w+"):
        fxgrow.grow_to(randomised(Positions(4)), Positions(6), x)


def test_what_is_no_hidden_width_is_refused_by_its_own_reason() -> None:
    with pytest.raises(GrowthError, match="looked up by number") as refusal:
        fxgrow.grow_to(randomised(GPT()), GPT(words=12), words())
    assert refusal.value.code == "vocabulary"


class Scaled(GPT):
    """Its embeddings are scaled by its size, as Gemma's are."""

    def forward(self, words: Tensor) -> Tensor:
        x = self.words(words) * self.words.embedding_dim**0.5
        return self.head(self.last(self.blocks(x + self.places)))


def test_what_computes_with_its_own_size_is_refused() -> None:
    with pytest.raises(GrowthError):
        fxgrow.grow_to(randomised(Scaled()), Scaled(size=9), words())
