"""Attention of nobody's in particular, whose code fixes its heads: lowered by its own graph."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxgrow import Budget, Firefly, couple, grow, load, lower, save, widen
from fxgrow.cli.model_and_data import ModelAndData, lower_model
from fxgrow.errors import ModelError
from tests.lowering.models import difference, in_train_mode, noise, randomised

DIM, HEADS, SIZE = 12, 3, 4


class Packed(nn.Module):
    """Queries, keys and values in one layer, as most vision transformers write it."""

    def __init__(self, heads: int = HEADS, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv, self.out = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        out: Tensor = self.out(y.transpose(1, 2).reshape(b, n, c))
        return out


class HeadsFirst(Packed):
    """Queries, keys and values of a head lie together (BLOOM, GPT-NeoX)."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, self.heads, 3, c // self.heads).unbind(3)
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / (c // self.heads) ** 0.5
        y = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v)
        out: Tensor = self.out(y.reshape(b, n, c))
        return out


class Maps(nn.Module):
    """Attention over the pixels of a map, channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Conv2d(DIM, DIM, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = (
            layer(x).reshape(b, HEADS, c // HEADS, h * w) for layer in (self.q, self.k, self.v)
        )
        scores = (q.transpose(-2, -1) @ k * (c // HEADS) ** -0.5).softmax(-1)
        out: Tensor = self.out((v @ scores.transpose(-2, -1)).reshape(b, c, h, w))
        return out


class Windows(Packed):
    """Heads with a table of positions and a mask for each window, expanded to all heads."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(16, HEADS))
        self.register_buffer("index", torch.randint(16, (4, 4)))
        self.register_buffer("mask", torch.randn(2, 4, 4))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        b, n, c = x.shape
        windows = x.reshape(b * 2, n // 2, c)
        qkv = self.qkv(windows).reshape(b * 2, n // 2, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.index.view(-1)].view(4, 4, -1).permute(2, 0, 1)[None]
        masks = self.mask.view(1, 2, 1, 4, 4).expand(b, -1, self.heads, -1, -1)
        y = F.scaled_dot_product_attention(q, k, v, bias + masks.reshape(-1, self.heads, 4, 4))
        out: Tensor = self.out(y.transpose(1, 2).reshape(b, n, c))
        return out


class Talking(Packed):
    """Heads that are mixed before and after the softmax (CaiT)."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(HEADS, HEADS), nn.Linear(HEADS, HEADS)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        scores = (qkv[0] @ qkv[1].transpose(-2, -1) / 2).permute(0, 2, 3, 1)
        mixed = self.after(self.before(scores).softmax(2)).permute(0, 3, 1, 2)
        out: Tensor = self.out((mixed @ qkv[2]).transpose(1, 2).reshape(b, n, c))
        return out


class Weighing(Packed):
    """A shape that is computed by slices and sums; its weights are given, too (BLIP)."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Any:
        b, n, c = x.size()
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        weights = (qkv[0] @ qkv[1].transpose(-2, -1) / 2).softmax(-1)
        y = (weights @ qkv[2]).permute(0, 2, 1, 3)
        return self.out(y.reshape(y.size()[:-2] + (c,))), weights  # noqa: RUF005 - BLIP's spelling


class Checking(Packed):
    """It checks how many heads its scores have (ProphetNet)."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        b, n, c = x.shape
        q, k, v = (part.view(b, n, HEADS, SIZE).transpose(1, 2) for part in self.qkv(x).chunk(3, 2))
        scores = torch.einsum("bhqd,bhkd->bhqk", q, k)
        if scores.size() != (b, HEADS, n, n):
            raise ValueError("wrong scores")
        y = torch.einsum("bhqk,bhkd->bqhd", scores.softmax(-1), v)
        out: Tensor = self.out(y.reshape(b, n, c))
        return out


class Model(nn.Module):
    """Attention on a normalized stream of tokens ``[batch, tokens, 5]`` or of pixels."""

    def __init__(self, attention: nn.Module, width: int = 5) -> None:
        super().__init__()
        self.embed, self.norm, self.head = (
            nn.Linear(width, DIM),
            nn.LayerNorm(DIM),
            nn.Linear(DIM, 2),
        )
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.embed(x))
        is_map = x.dim() == 4
        y = self.attention(x.permute(0, 3, 1, 2) if is_map else x)
        y = y[0] if isinstance(y, tuple) else y
        out: Tensor = self.head(x + (y.permute(0, 2, 3, 1) if is_map else y))
        return out


TOKENS, PIXELS = noise(2, 8, 5), noise(2, 3, 4, 5)
ATTENTION: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "packed": (Packed, TOKENS),
    "heads first": (HeadsFirst, TOKENS),
    "maps": (Maps, PIXELS),
    "windows": (Windows, TOKENS),
    "talking": (Talking, TOKENS),
    "weighing": (Weighing, TOKENS),
    "checking": (Checking, TOKENS),
}


def heads_of(model: nn.Module, x: Tensor) -> dict[str, int]:
    """The growable widths of the attention, and two heads more for each."""
    found = couple(model, (x,)).widths
    return {w.name: 2 for w in found if w.growable and w.name.startswith("attention.")}


@pytest.mark.parametrize("how", ["split", "new"])
@pytest.mark.parametrize("name", ATTENTION)
def test_heads_grow_and_keep_the_function(name: str, how: Any) -> None:
    make, x = ATTENTION[name]
    torch.manual_seed(0)
    model = randomised(Model(make()))
    before = heads_of(model, x)
    lowered = lower(model, (x,))
    assert heads_of(model, x) == before
    amounts = heads_of(lowered, x)
    assert len(amounts) > len(before)
    widths = couple(lowered, (x,)).by_name
    assert {widths[width].size for width in amounts} == {HEADS}
    wider = widen(lowered, amounts, (x,), how=how).module
    for change in (lambda m: m, in_train_mode):
        assert difference(change(model), change(lowered), x) == 0
        assert difference(change(model), change(wider), x) < 1e-12
    # More tokens or pixels, and another number of examples, than in the example inputs.
    if name != "windows":
        other = noise(3, *(2 * size for size in x.shape[1:-1]), 5)
        assert difference(model, wider, other) < 1e-12


class Readouts(nn.Module):
    """What it computes of each of several maps gets the shape of the map again (DPT)."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.ModuleList(nn.Linear(DIM, DIM) for _ in range(2))
        self.out = nn.ModuleList(nn.Conv2d(DIM, DIM, 1) for _ in range(2))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        results = []
        for each, mix, out in zip(maps, self.mix, self.out, strict=True):
            mixed = torch.tanh(mix(each.flatten(2).permute(0, 2, 1)))
            results.append(out(mixed.permute(0, 2, 1).reshape(each.shape)))
        return results


class TwoMaps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.readouts, self.head = nn.Conv2d(5, DIM, 1), Readouts(), nn.Linear(DIM, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.permute(0, 3, 1, 2))
        near, far = self.readouts([x, x.flip(-1)])
        out: Tensor = self.head((near + far).mean((2, 3)))
        return out


def test_a_shape_of_another_tensor_gives_way() -> None:
    model = randomised(TwoMaps())
    lowered = lower(model, (PIXELS,))
    amounts = {f"readouts.mix.{i}": 2 for i in range(2)}
    assert not any(couple(model, (PIXELS,)).by_name[name].growable for name in amounts)
    wider = widen(lowered, amounts, (PIXELS,)).module
    assert wider.readouts.out[1].in_channels == DIM + 2
    assert difference(model, wider, PIXELS) < 1e-12


def test_the_module_stays_of_its_class_with_its_parameters() -> None:
    model = randomised(Model(Packed()))
    lowered = lower(model, (TOKENS,))
    assert isinstance(lowered.attention, Packed)
    assert type(model.attention) is Packed
    assert lowered.state_dict().keys() == model.state_dict().keys()
    assert lowered.attention.heads == HEADS
    assert type(lower(lowered, (TOKENS,)).attention) is type(lowered.attention)


def test_dropout_follows_the_mode() -> None:
    model = randomised(Model(Packed(dropout=0.5)))
    lowered = lower(model, (TOKENS,))
    assert type(lowered.attention) is not Packed
    assert difference(model, lowered, TOKENS) == 0
    assert difference(in_train_mode(model), in_train_mode(lowered), TOKENS) == 0
    assert difference(in_train_mode(lowered), lowered, TOKENS) > 1e-3


class WithoutMask(nn.Module):
    """It says that there is no mask."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.last = Packed(), nn.Linear(DIM, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.attention(x, None))
        return out


@pytest.mark.parametrize("make", [lambda: Model(Packed()), WithoutMask], ids=["default", "given"])
def test_another_kind_of_call_is_computed_by_the_class(make: Callable[[], nn.Module]) -> None:
    model, x, mask = randomised(make()), noise(2, 8, DIM), noise(8, 8)
    lowered = lower(model, (TOKENS if isinstance(model, Model) else x,))
    assert type(lowered.attention) is not Packed
    assert difference(model.attention, lowered.attention, x, mask) == 0
    assert difference(model.attention, lowered.attention, x, mask=mask) == 0
    assert difference(model.attention, lowered.attention, x=x) == 0


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_grow_as_well(duplicate: Callable[[nn.Module], nn.Module]) -> None:
    model = randomised(Model(Packed()))
    lowered = lower(model, (TOKENS,))
    copied = duplicate(lowered)
    assert type(copied.attention) is type(lowered.attention)
    wider = widen(copied, heads_of(copied, TOKENS), (TOKENS,)).module
    assert difference(model, duplicate(wider), TOKENS) < 1e-12
    assert heads_of(wider, TOKENS)


def hooked() -> nn.Module:
    attention = Packed()
    attention.out.register_forward_hook(lambda *_: None)
    return attention


class Grown(Packed):
    """Its heads follow already."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, -1, SIZE)).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, mask)
        out: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return out


class Branching(Packed):
    """It decides on values, so torch.fx has no graph of it."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return super().forward(x if x.sum() > -1e9 else -x, mask)


@pytest.mark.parametrize("make", [hooked, Grown, Branching], ids=["hook", "grows", "branch"])
def test_what_has_no_better_form_stays_as_it_is(make: Callable[[], nn.Module]) -> None:
    model = randomised(Model(make()))
    assert type(lower(model, (TOKENS,)).attention) is type(model.attention)


def test_alike_blocks_get_one_type() -> None:
    model = randomised(nn.Sequential(nn.Linear(5, DIM), Packed(), Packed(), nn.Linear(DIM, 2)))
    lowered = lower(model, (TOKENS,))
    assert type(lowered[1]) is type(lowered[2]) is not Packed


def test_lowered_heads_are_grown_scored_and_saved(tmp_path: Any) -> None:
    torch.manual_seed(0)
    model = lower(Model(Packed()), (TOKENS.float(),))
    x, y = torch.randn(8, 4, 5), torch.randn(8, 4, 2)
    growth = grow(
        model,
        [(x, y)],
        nn.functional.mse_loss,
        example_inputs=(x[:1],),
        method=Firefly(new=2, steps=2),
        budget=Budget(neurons=2),
    )
    assert [(c.before, c.after) for c in growth.report.widths] == [(HEADS, HEADS + 2)]
    assert isinstance(growth.module.attention, Packed)
    save(growth, tmp_path / "grown")
    loaded = load(tmp_path / "grown")
    torch.testing.assert_close(loaded(x), growth.module.eval()(x))


def test_the_command_line_lowers_modules_of_any_class() -> None:
    loaded = ModelAndData(Model(Packed()), (TOKENS.float(),), "mine")
    assert isinstance(lower_model(loaded).model.attention, Packed)
    assert type(lower_model(loaded).model.attention) is not Packed
    plain = ModelAndData(
        nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 2)), (TOKENS.float(),), "plain"
    )
    with pytest.raises(ModelError, match="no heads fixed by the code of a module"):
        lower_model(plain)


def test_a_model_that_does_not_run_is_told_so() -> None:
    model = Model(Packed()).to("meta")
    with pytest.raises(ModelError, match="does not run on its example inputs") as error:
        lower(model, (TOKENS.float(),))
    assert error.value.code == "does-not-run"
