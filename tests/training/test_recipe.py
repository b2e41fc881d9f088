"""Recipes: what is read is what was written, the shipped ones can be read, and mistakes have a code and a place."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxgrow.cli.model_and_data import load_model
from fxgrow.data import SOURCES
from fxgrow.errors import FxgrowError, SpecError
from fxgrow.growth import Budget
from fxgrow.methods import Firefly, MethodConfig
from fxgrow.training import (
    AdamWSettings,
    AtEpochs,
    AtSteps,
    Augmentation,
    ByPromise,
    Compilation,
    ConstantRate,
    CosineRate,
    DataChoice,
    EarlyStop,
    EqualPhases,
    EveryEpochs,
    MovingAverage,
    OnFullRank,
    OnPlateau,
    Recipe,
    RunSettings,
    SGDSettings,
    StepRate,
    UntilNoGain,
    read_recipe,
    recipe_text,
)
from fxgrow.training.recipe import (
    _MAX_FILE_BYTES,
    RECIPE_DOCUMENT,
)

SHIPPED = sorted((Path(__file__).parents[2] / "specs" / "recipes").iterdir())
LEAST = "schema_version: 2\nmodel: a.b:c\nbudget: {neurons: 0.3}\n"
POSITIVE = st.floats(1e-6, 1e6) | st.integers(1, 10**6)
TEXTS = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=8) | st.sampled_from(
    ["no", "1e-3", "0x1"]
)
READ = [name for name, source in SOURCES.items() if source.reads_files]
METHODS: st.SearchStrategy[MethodConfig] = st.one_of(
    st.builds(
        MethodConfig,
        settings=st.builds(
            Firefly,
            layers=st.just(1),
            at=st.tuples(TEXTS),
            eps=st.floats(1e-9, 1),
            path=st.sampled_from(["joint", "single"]),
        ),
    ),
    st.builds(MethodConfig, name=st.sampled_from(["RandomGrowth", "Splitting"])),
)
TRIGGERS = st.one_of(
    st.builds(EqualPhases),
    st.builds(EveryEpochs, epochs=st.integers(1, 9)),
    st.builds(AtEpochs, epochs=st.lists(st.integers(1, 8), min_size=1, max_size=2).map(tuple)),
    st.builds(AtSteps, steps=st.just((10, 2**40))),
    st.builds(
        OnPlateau, patience=st.integers(0, 9), of=st.sampled_from(["loss", "validation_loss"])
    ),
    st.builds(UntilNoGain, min_delta=st.floats(0, 1)),
    st.builds(OnFullRank, share=st.floats(0.1, 1)),
    st.builds(ByPromise, window=st.integers(1, 9)),
)
OPTIMIZERS = st.builds(SGDSettings) | st.builds(
    AdamWSettings, betas=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99))
)
SCHEDULES = st.one_of(
    st.builds(ConstantRate, warmup_steps=st.integers(0, 2**40)),
    st.builds(CosineRate, warmup=st.floats(0, 8.5)),
    st.builds(StepRate, milestones=st.just((0.25, 0.5)), gamma=st.floats(1e-3, 1)),
)
AUGMENTATIONS = st.builds(Augmentation) | st.builds(
    Augmentation, crop=st.integers(0, 9), rand_augment=st.just(1), mixup=st.floats(0.001, 1)
)
RECIPES = st.builds(
    Recipe,
    schema_version=st.just(2),
    model=TEXTS,
    data=st.builds(DataChoice, name=st.sampled_from(list(SOURCES)))
    | st.builds(DataChoice, name=st.sampled_from(READ), root=st.just(Path("a b/c"))),
    settings=st.builds(
        RunSettings,
        epochs=st.integers(9, 99),
        lr=st.floats(1e-9, 1e9),
        memory_limit=st.none() | st.just(2e9),
        validation=st.just(0.1),
        grow_when=TRIGGERS,
        optimizer=OPTIMIZERS,
        schedule=SCHEDULES,
        label_smoothing=st.floats(0, 0.99),
        clip=st.none() | st.floats(1e-9, 1e9),
        augmentation=AUGMENTATIONS,
        precision=st.sampled_from(["float32", "bfloat16", "float16"]),
        ema=st.none() | st.builds(MovingAverage, decay=st.floats(0, 0.9999)),
        early_stop=st.none() | st.builds(EarlyStop, patience=st.integers(0, 7)),
        compile=st.none() | st.builds(Compilation, backend=st.just("aot_eager")),
    ),
    method=METHODS,
    budget=st.builds(Budget, neurons=POSITIVE, latency=st.none() | POSITIVE),
    notes=st.dictionaries(TEXTS, TEXTS, max_size=2),
)


@settings(deadline=None)
@given(RECIPES)
def test_what_is_written_is_read(recipe: Recipe) -> None:
    again = RECIPE_DOCUMENT.read(recipe_text(recipe))
    assert again == recipe
    assert type(again.budget.neurons) is type(recipe.budget.neurons)  # a count or a fraction


def test_every_setting_is_written() -> None:
    data = RECIPE_DOCUMENT.parse(recipe_text(RECIPE_DOCUMENT.read(LEAST)))
    assert data["method"] == {"name": "Auto", "settings": {}}
    named = RECIPE_DOCUMENT.read(f"{LEAST}\nmethod: {{name: Firefly}}")
    data = RECIPE_DOCUMENT.parse(recipe_text(named))
    # None: there is no word for it.
    assert set(data["method"]["settings"]) == set(Firefly.model_fields) - {"new"}
    assert set(data["settings"]) == set(RunSettings.model_fields) - {
        "memory_limit",
        "growth_batches",
        "new_entry_rate",
        "clip",
        "ema",
        "early_stop",
        "compile",
    }


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_recipes_can_be_read(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.data.name in SOURCES
    assert recipe.notes.keys() >= {"paper"}, "say which values are the paper's and which are ours"
    pytest.importorskip("torchvision")
    assert load_model(recipe.model).example_inputs[0].shape[1] in (1, 3)


def test_there_are_shipped_recipes() -> None:
    names = {path.name for path in SHIPPED}
    assert names >= {"demo.yaml", "plateau.yaml", "resnet18-digits.yaml", "width-cifar.yaml"}


@pytest.mark.parametrize(
    ("text", "code", "path"),
    [
        (LEAST + "budget: {neurons: 1}", "bad-yaml", "recipe.yaml"),
        (LEAST + "notes: &a {}", "bad-yaml", "recipe.yaml"),
        (LEAST.replace("2", "3", 1), "schema-version", "schema_version"),
        (LEAST.replace("schema_version: 2\n", ""), "missing-key", "schema_version"),
        ("- 1", "bad-value", "recipe.yaml"),
        ("", "bad-value", "recipe.yaml"),
        (LEAST + "method: {name: Magic}", "unknown-method", None),
        (
            LEAST + "method: {name: Firefly, settings: {eps: 0}}",
            "bad-value",
            "method.settings.eps",
        ),
        (
            LEAST + "method: {name: Splitting, settings: {new: 3}}",
            "unknown-key",
            "method.settings.new",
        ),
        (LEAST + "settings: {epochs: '3'}", "bad-value", "settings.epochs"),
        (LEAST + "settings: {epochs: 0}", "no-epochs", None),
        (LEAST + "settings: {lr: 1e999}", "not-finite", "settings.lr"),
        (LEAST.replace("0.3", "0"), "empty-budget", None),
        (LEAST + "lower: no", "bad-value", "lower"),
        (
            LEAST + "settings: {grow_when: {name: Sometimes}}",
            "bad-value",
            "settings.grow_when",
        ),
        (LEAST + "settings: {grow_when: {patience: 1}}", "bad-value", "settings.grow_when"),
        (
            LEAST + "settings: {grow_when: {name: OnPlateau, patience: -1}}",
            "bad-value",
            "settings.grow_when.OnPlateau.patience",
        ),
        (
            LEAST + "settings: {grow_when: {name: EveryEpochs, points: [1]}}",
            "unknown-key",
            "settings.grow_when.EveryEpochs.points",
        ),
        (LEAST + "settings: {grow_when: {name: UntilNoGain}}", "no-validation", None),
        (LEAST + "seed: 3", "unknown-key", "seed"),
    ],
)
def test_mistakes(
    text: str, code: str, path: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(text)
    error = failure(Path("recipe.yaml"))
    assert (error.code, getattr(error, "path", None)) == (code, path)


def failure(path: Path) -> FxgrowError:
    with pytest.raises(FxgrowError) as caught:
        read_recipe(path)
    return caught.value


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(_MAX_FILE_BYTES + 1)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda path: None, "missing-file"),
        (Path.mkdir, "not-a-file"),
        (lambda path: path.write_bytes(b"\xff"), "bad-json"),
        (sparse, "too-large"),
    ],
)
def test_files_that_cannot_be_read(make: Any, code: str, tmp_path: Path) -> None:
    make(tmp_path / "recipe.yaml")
    error = failure(tmp_path / "recipe.yaml")
    assert isinstance(error, SpecError)
    assert (error.code, error.path) == (code, str(tmp_path / "recipe.yaml"))
