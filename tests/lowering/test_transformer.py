from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxgrow import capture, lower
from fxgrow.lowering.transformer import PLAIN_LAYERS
from tests.lowering.models import DIM, difference, drift, heads_of, in_train_mode, noise, randomised

EVEN = 4  # torch runs its fused kernels on an even number of heads only
SIZES = {"d_model": DIM, "nhead": EVEN, "dim_feedforward": 8}


class Ends(nn.Module):
    """A layer to embed, one to read out, and a transformer between them."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.embed, self.inner, self.head = nn.Linear(5, DIM), inner, nn.Linear(DIM, 2)

    def forward(self, *xs: Tensor) -> Tensor:
        return self.head(self.inner(*(self.embed(x) for x in xs)))


def encoder(**form: Any) -> nn.Module:
    return nn.TransformerEncoder(
        nn.TransformerEncoderLayer(**SIZES, **form), 1, norm=nn.LayerNorm(DIM)
    )


def decoder(**form: Any) -> nn.Module:
    return nn.TransformerDecoder(
        nn.TransformerDecoderLayer(**SIZES, **form), 1, norm=nn.LayerNorm(DIM)
    )


def whole(**form: Any) -> nn.Module:
    return nn.Transformer(num_encoder_layers=1, num_decoder_layers=1, **SIZES, **form)


KINDS: dict[str, tuple[Callable[..., nn.Module], int, int]] = {
    "encoder": (encoder, 1, 1),
    "decoder": (decoder, 2, 2),
}
KINDS["whole"] = (whole, 2, 3)  # the number of its inputs and of its attentions
# With batch_first torch's attention gives a transposed tensor, in which dropout draws its numbers in another order.
FORMS = {
    "last": {"batch_first": True, "dropout": 0.0},
    "first": {"norm_first": True, "dropout": 0.3},
}

pytestmark = [
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors"),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_heads_of_every_layer_grow(kind: str, form: str) -> None:
    build, count, attentions = KINDS[kind]
    model = randomised(Ends(build(**FORMS[form])))
    inputs = tuple(noise(2, 2, 5, seed=i) for i in range(count))
    mine = lower(model)
    assert difference(model, mine, *inputs) < 1e-12
    assert difference(in_train_mode(model), in_train_mode(mine), *inputs) < 1e-12
    assert [width.size for width in heads_of(mine, inputs)] == [EVEN] * attentions
    assert drift(mine, inputs, "split") < 1e-9
    assert capture(mine, inputs).traced_share == 1


@pytest.mark.parametrize("grad", [True, False], ids=["with gradients", "fast path"])
def test_masks_of_the_encoder(grad: bool) -> None:
    model = randomised(encoder(batch_first=True))
    mine, x = lower(model), noise(2, 4, DIM)
    causal = nn.Transformer.generate_square_subsequent_mask(4)
    padding = torch.tensor([[False, False, False, True], [False, False, False, False]])
    for words in (
        {"mask": causal.double()},
        {"mask": causal < 0},
        {"mask": causal.double(), "is_causal": True},
    ):
        with torch.set_grad_enabled(grad):
            assert torch.allclose(model(x, **words), mine(x, **words), rtol=0, atol=1e-12)
    with torch.set_grad_enabled(grad):
        seen = ~padding[
            ..., None
        ]  # without gradients the original gives zeros where the input is padding
        theirs, ours = (m(x, src_key_padding_mask=padding) for m in (model, mine))
    assert torch.allclose(theirs * seen, ours * seen, rtol=0, atol=1e-12)


def test_masks_of_the_decoder() -> None:
    model = randomised(decoder())
    mine, x, memory = lower(model), noise(4, 2, DIM), noise(3, 2, DIM, seed=2)
    words = {
        "tgt_mask": nn.Transformer.generate_square_subsequent_mask(4, dtype=torch.float64),
        "memory_mask": noise(4, 3),
        "tgt_key_padding_mask": noise(2, 4),
        "memory_key_padding_mask": noise(2, 3),
    }
    assert difference(model, mine, x, memory, **words) < 1e-12


def test_masks_of_the_whole() -> None:
    model = randomised(whole())
    mine, x, y = lower(model), noise(3, 2, DIM), noise(4, 2, DIM, seed=2)
    words = {
        "src_mask": noise(3, 3),
        "tgt_mask": nn.Transformer.generate_square_subsequent_mask(4, dtype=torch.float64),
        "memory_mask": noise(4, 3),
        "src_key_padding_mask": noise(2, 3),
        "tgt_key_padding_mask": noise(2, 4),
        "memory_key_padding_mask": noise(2, 3),
        "tgt_is_causal": True,
    }
    assert difference(model, mine, x, y, **words) < 1e-12


def test_the_plain_classes_are_subclasses() -> None:
    assert all(issubclass(plain, original) for original, plain in PLAIN_LAYERS.items())
    mine = lower(encoder())
    assert isinstance(mine, nn.TransformerEncoder)
    assert {type(layer) for layer in mine.layers} == {PLAIN_LAYERS[nn.TransformerEncoderLayer]}


class OwnLayer(nn.TransformerEncoderLayer):
    """A user's own kind of layer."""


def test_a_subclass_of_a_layer_takes_the_slow_path() -> None:
    model = randomised(OwnLayer(**SIZES, batch_first=True))
    mine, x = lower(model), noise(2, 4, DIM)
    assert type(mine) is OwnLayer
    assert difference(model, mine, x) < 1e-12


class OwnEncoder(nn.TransformerEncoder):
    """A user's own kind of encoder."""


def test_a_subclass_of_the_encoder_gives_its_layers_no_nested_tensors() -> None:
    model = randomised(OwnEncoder(nn.TransformerEncoderLayer(**SIZES, batch_first=True), 1))
    x, padding = noise(1, 4, DIM), torch.tensor([[False, False, False, True]])
    with torch.no_grad():
        theirs, ours = (m(x, src_key_padding_mask=padding) for m in (model, lower(model)))
    assert torch.allclose(theirs[:, :3], ours[:, :3], rtol=0, atol=1e-12)
