"""Fields of a recipe get other values: as if the file said so, and unknown ones are named with their nearest."""

import pytest

from fxgrow.errors import FxgrowError
from fxgrow.growth import Budget
from fxgrow.methods import Firefly, MethodConfig
from fxgrow.training import (
    AdamWSettings,
    Augmentation,
    Compilation,
    CosineRate,
    EarlyStop,
    MovingAverage,
    OnPlateau,
    Recipe,
    RunSettings,
    StepRate,
    changed_recipe,
)

RECIPE = Recipe(
    schema_version=2,
    model="torchvision:resnet18",
    budget=Budget(neurons=0.3),
    settings=RunSettings(epochs=9, grow_when=OnPlateau(patience=2)),
    method=MethodConfig(settings=Firefly(new=4)),
)


def test_fields_get_other_values() -> None:
    changed = changed_recipe(
        RECIPE,
        [
            "settings.lr=1e-3",
            "settings.optimizer.name=adamw",
            "settings.optimizer.betas=[0.9, 0.95]",
            "settings.schedule={name: step, milestones: [0.5]}",
            "settings.new_entry_rate.half_life=9",
            "settings.grow_when.patience=5",
            "settings.augmentation.flip=0.5",
            "settings.augmentation.crop=2",
            "settings.ema.decay=0.99",
            "settings.early_stop={patience: 3}",
            "settings.validation=0.1",
            "settings.compile={}",
            "settings.precision=bfloat16",
            "method.settings.eps=0.25",
            "model=timm:resnet18?num_classes=10",
            "budget.neurons=64",
            "notes.why=because",
            "lower=true",
            "lower=false",
        ],
    )
    settings = changed.settings
    assert settings.optimizer == AdamWSettings(betas=(0.9, 0.95))
    assert settings.schedule == StepRate(milestones=(0.5,))
    assert settings.new_entry_rate is not None and settings.new_entry_rate.half_life == 9
    assert settings.grow_when == OnPlateau(patience=5)
    assert settings.augmentation == Augmentation(flip=0.5, crop=2)
    assert (settings.ema, settings.compile) == (MovingAverage(decay=0.99), Compilation())
    assert (settings.early_stop, settings.precision) == (EarlyStop(patience=3), "bfloat16")
    assert (settings.lr, settings.epochs) == (1e-3, 9)
    assert changed.method.settings == Firefly(new=4, eps=0.25)
    assert (changed.model, changed.lower) == ("timm:resnet18?num_classes=10", False)
    assert changed.budget.amounts == {"neurons": 64}
    assert changed.notes == {"why": "because"}
    assert RECIPE.settings.schedule == CosineRate() and RECIPE.notes == {}


def test_values_need_to_fit_together_only_at_the_end() -> None:
    changed = changed_recipe(RECIPE, ["settings.epochs=2", "settings.grow_steps=1"])
    assert (changed.settings.epochs, changed.settings.grow_steps) == (2, 1)


@pytest.mark.parametrize(
    ("assignment", "code", "sentence"),
    [
        ("settings.lr", "bad-setting", "--set 'settings.lr' has no value"),
        ("settings.leraning=1", "bad-setting", "no field 'leraning' there; there are epochs, "),
        ("settings.weight_deacy=1", "bad-setting", "did you mean weight_decay?"),
        ("setings.lr=1", "bad-setting", "did you mean settings?"),
        ("settings.schedule.warmup_step=1", "bad-setting", "did you mean warmup_steps?"),
        ("settings.optimizer.beta=1", "bad-setting", "did you mean betas?"),
        ("settings.grow_when.patiense=1", "bad-setting", "did you mean patience?"),
        ("settings.augmentation.flop=1", "bad-setting", "did you mean flip?"),
        ("settings.ema.decai=1", "bad-setting", "did you mean decay?"),
        ("method.settings.stepps=1", "bad-setting", "did you mean steps?"),
        ("=1", "bad-setting", "no field ''"),
        ("settings.lr.value=1", "bad-setting", "settings.lr has no fields; set it itself"),
        ("settings.lr=fast", "bad-value", "valid number"),
        ("settings.lr=-1", "bad-value", "greater than 0"),
        ("settings.optimizer.betas=[0.9, 0.9]", "unknown-key", "not permitted"),
        ("method.name=[1]", "bad-value", "string"),
        ("settings=[1", "bad-yaml", "it is not plain YAML"),
        ("notes=&a {}", "bad-yaml", "anchor"),
        ("notes=" + "[" * 99, "too-deep", "nested deeper"),
        ("model=" + "x" * 70000, "too-large", "over the limit"),
        ("settings.epochs=0", "no-epochs", "0 epochs train nothing"),
        ("schema_version=3", "schema-version", "version 3"),
    ],
)
def test_what_cannot_be_set_is_said_in_a_sentence(
    assignment: str, code: str, sentence: str
) -> None:
    with pytest.raises(FxgrowError) as caught:
        changed_recipe(RECIPE, [assignment])
    assert caught.value.code == code
    assert sentence in str(caught.value)


def test_nothing_set_is_the_same_recipe() -> None:
    assert changed_recipe(RECIPE, []) is RECIPE
