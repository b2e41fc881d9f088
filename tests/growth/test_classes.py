"""More classes: old logits stay, new ones start at their mean; what counts classes follows."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxgrow
from fxgrow.errors import FxgrowError, GrowthError
from tests.networks import randomised

CLASSES = 3


class Classifier(nn.Module):
    """With a count of its own, as timm's models have."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.num_classes = CLASSES
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, CLASSES, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.conv(x)).relu().mean((2, 3))).view(-1, self.num_classes)


class Convolutional(nn.Module):
    """A classifier of every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc = nn.Conv2d(1, 4, 3), nn.Conv2d(4, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).relu())


def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 1, 5, 5, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("make", [Classifier, lambda: Classifier(bias=False), Convolutional])
def test_old_logits_stay(make: Any) -> None:
    model = randomised(make())
    more = fxgrow.grow_classes(model, 2, images())
    grown: Any = more.module
    assert type(grown) is type(model) and more.preservation_error <= 1e-12
    logits, before = grown(images()), model(images())
    assert logits.shape[1] == CLASSES + 2
    torch.testing.assert_close(logits[:, :CLASSES], before, rtol=1e-12, atol=1e-12)
    mean = before.mean(1, keepdim=True).expand_as(logits[:, CLASSES:])
    torch.testing.assert_close(logits[:, CLASSES:], mean, rtol=1e-9, atol=1e-9)
    assert set(more.rows.values()) == {CLASSES + 2}
    assert len(grown.fc.weight) == CLASSES + 2
    if isinstance(grown, Classifier):
        assert grown.num_classes == grown.fc.out_features == CLASSES + 2
        assert model.num_classes == CLASSES


def test_new_classes_learn_in_the_same_optimizer_and_more_than_once() -> None:
    torch.manual_seed(1)  # of its four neurons none is dead for these images
    model = randomised(Classifier())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for round_number in (1, 2):
        model(images()).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        fxgrow.grow_classes(
            model, 1, images(), how="new", seed=round_number, inplace=True, optimizer=optimizer
        )
    assert model.fc.out_features == CLASSES + 2
    nn.functional.cross_entropy(model(images()), torch.tensor([3, 4])).backward()
    assert model.fc.weight.grad is not None and model.fc.weight.grad[CLASSES:].abs().min() > 0
    optimizer.step()


def test_a_saved_model_loads_again(tmp_path: Path) -> None:
    more = fxgrow.grow_classes(randomised(Classifier()), 2, images())
    fxgrow.save(more, tmp_path)
    assert torch.equal(fxgrow.load(tmp_path)(images()), more.module.eval()(images()))


def test_heads_that_are_named_and_models_without() -> None:
    model = randomised(nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 4), nn.ReLU()))
    x = torch.randn(2, 2, dtype=torch.float64)
    assert fxgrow.grow_classes(model, 1, x, head="1").module(x).shape == (2, 5)
    for head in ("2", "missing", ""):
        with pytest.raises(GrowthError, match="name another one") as refusal:
            fxgrow.grow_classes(model, 1, x, head=head)
        assert refusal.value.code == "no-head"
    with pytest.raises(FxgrowError) as caught:  # who reads them reads four
        fxgrow.grow_classes(model, 1, x, head="0")
    assert caught.value.code == "broken-promise" and model[0].out_features == 4
    with pytest.raises(GrowthError, match="name that layer") as refusal:
        fxgrow.grow_classes(Parted(), 1, torch.randn(2, 2))
    assert refusal.value.code == "no-head"


class Parted(nn.Module):
    """Two layers give the scores together."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 3), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) + self.b(x)


@pytest.mark.filterwarnings("default")
def test_labels_of_a_transformer(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=12, id2label={0: "cat", 1: "dog", 2: "owl"},
        label2id={"cat": 0, "dog": 1, "owl": 2},
    )  # fmt: skip
    small: Any = randomised(transformers.BertForSequenceClassification(config))
    words = {"input_ids": torch.randint(0, 20, (2, 4))}
    more = fxgrow.grow_classes(small, 2, words)
    model: Any = more.module
    assert more.config is not None and more.config.note == ""
    labels = {0: "cat", 1: "dog", 2: "owl", 3: "LABEL_3", 4: "LABEL_4"}
    assert model.config.id2label == labels and model.config.num_labels == model.num_labels == 5
    assert model.config.label2id == {label: number for number, label in labels.items()}
    assert small.config.num_labels == small.num_labels == 3
    # Its own loss looks at as many logits as there are labels.
    loss = model(**words, labels=torch.tensor([4, 3])).loss
    assert loss.isfinite()
    torch.testing.assert_close(
        model(**words).logits[:, :3], small(**words).logits, rtol=1e-9, atol=1e-9
    )
    model.save_pretrained(tmp_path)
    kind = transformers.BertForSequenceClassification
    loaded = kind.from_pretrained(tmp_path, dtype=torch.float64).eval()
    torch.testing.assert_close(loaded(**words).logits, model(**words).logits, rtol=1e-6, atol=1e-6)
    assert loaded.config.id2label == labels
