import pytest

from fxgrow import lower
from fxgrow.lowering.maxvit import RelativeAttention
from tests.lowering.models import (
    DIM,
    HEADS,
    Picture,
    difference,
    drift,
    heads_of,
    noise,
    randomised,
)

maxvit = pytest.importorskip("torchvision.models.maxvit")
WINDOW = 2


def attention() -> object:
    return maxvit.RelativePositionalMultiHeadAttention(DIM, DIM // HEADS, WINDOW**2)


def test_the_same_function() -> None:
    fused = randomised(attention())
    mine = lower(fused)
    assert type(mine) is RelativeAttention
    assert difference(fused, mine, noise(2, 3, WINDOW**2, DIM)) < 1e-12


@pytest.mark.parametrize("how", ["split", "new"])
def test_heads_grow(how: str) -> None:
    mine, x = lower(randomised(Picture(attention()))), (noise(2, 3, WINDOW**2, 5),)
    [heads] = heads_of(mine, x)
    assert heads.size == HEADS
    assert "attention.position.table" in {site.parameter for site in heads.sites}
    assert drift(mine, x, how) < 1e-9
