import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from fxgrow.errors import DataError, ModelError
from fxgrow.training import accuracy, cross_entropy, evaluate, logits

SCORES = torch.tensor([[2.0, 1.0], [0.0, 1.0]])


@dataclass
class Output:
    logits: Tensor


@pytest.mark.parametrize("output", [SCORES, Output(SCORES), {"logits": SCORES}])
def test_where_logits_are(output: object) -> None:
    assert logits(output) is SCORES


@pytest.mark.parametrize("output", [torch.zeros(2, 3, 4), (SCORES,), {"out": SCORES}, None])
def test_outputs_without_logits(output: object) -> None:
    with pytest.raises(ModelError, match="holds no class scores") as caught:
        logits(output)
    assert caught.value.code == "no-logits"


@dataclass
class Helped(Output):
    auxiliary: Tensor


def test_a_second_classifier_counts_two_fifths() -> None:
    target, helper = torch.tensor([0, 1]), torch.zeros(2, 2)
    plain = float(cross_entropy(SCORES, target))
    assert plain == pytest.approx(math.log1p(math.exp(-1)))
    assert float(cross_entropy(Helped(SCORES, helper), target)) == pytest.approx(
        plain + 0.4 * math.log(2)
    )


def test_label_smoothing_is_cross_entropy_against_a_mixture() -> None:
    """Szegedy et al. 2016, Eq. 5: (1 - s) times that of the label, and s times the mean over all classes."""
    torch.manual_seed(0)
    scores, helper = torch.randn(2, 5, 3, dtype=torch.float64)
    target = torch.tensor([0, 2, 1, 0, 1])
    each = torch.stack([cross_entropy(scores, torch.full((5,), label)) for label in range(3)])
    expected = 0.9 * cross_entropy(scores, target) + 0.1 * each.mean()
    torch.testing.assert_close(cross_entropy(scores, target, label_smoothing=0.1), expected)
    second = cross_entropy(helper, target, label_smoothing=0.1)
    helped = cross_entropy(Helped(scores, helper), target, label_smoothing=0.1)
    torch.testing.assert_close(helped, expected + 0.4 * second)


def test_batches_count_by_their_images() -> None:
    right, wrong = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 9.0]])
    batches = [
        (right.expand(3, 2), torch.zeros(3, dtype=torch.long)),
        (wrong, torch.zeros(1, dtype=torch.long)),
    ]
    assert accuracy(nn.Identity(), batches) == 0.75
    found = evaluate(nn.Identity(), batches)
    assert found.loss == pytest.approx((3 * 0.00012 + 9.00012) / 4, abs=1e-4)


def test_the_mode_of_every_part_comes_back() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(2))
    model.train()
    model[1].eval()
    batches = [(torch.ones(4, 2), torch.zeros(4, dtype=torch.long))]
    assert evaluate(model, batches) == evaluate(model, batches)
    assert [part.training for part in model.modules()] == [True, True, False]


def test_no_batches() -> None:
    with pytest.raises(DataError, match="no image to evaluate"):
        evaluate(nn.Identity(), [])
