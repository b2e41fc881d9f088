"""Recipes that are too much, too deep, ambiguous, that ask for objects, or for more than there is."""

from pathlib import Path

import pytest

from fxgrow.errors import FxgrowError
from fxgrow.training import read_recipe
from tests.attacks.attacking import CANARY, within_a_second

LEAST = "schema_version: 2\nmodel: a.b:c\nbudget: {neurons: 0.3}\n"
LONG = "9" * 4000
TEXTS = {
    "an alias": ("notes: {a: &a x, b: *a}", "bad-yaml"),
    "a bomb of aliases": (
        "".join(f"a{i}: &a{i} [{f'*a{i - 1},' * 9 if i else 1}]\n" for i in range(30)),
        "bad-yaml",
    ),
    "an object": ("notes: {a: !!python/object/apply:os.system ['touch canary']}", "bad-yaml"),
    "a module": ("notes: {a: !!python/module:os ''}", "bad-yaml"),
    "binary": ("notes: {a: !!binary aGk=}", "bad-yaml"),
    "a tag of one's own": (
        "%TAG ! tag:yaml.org,2002:python/\n---\na: !name:os.system x",
        "bad-yaml",
    ),
    "a set": ("notes: !!set {a, b}", "bad-yaml"),
    "a merge": ("<<: {lower: true}", "unknown-key"),
    "a repeated key": ("model: b", "bad-yaml"),
    "a second document": ("---\na: 1", "bad-yaml"),
    "a null byte": ('notes: {a: "\0"}', "bad-yaml"),
    "a terminal cleared": ('notes: {a: "\\e[2J"}', "bad-text"),
    "a date": ("notes: {a: 2020-01-01}\nlower: 2020-01-01", "bad-value"),
    "many characters": ("#" * 70_000, "too-large"),
    "many values": ("notes: [" + "1," * 30_000 + "1]", "too-large"),
    "many empty values": ("notes:\n" + "- \n" * 20_000, "too-large"),
    "many keys": ("notes:\n" + "".join(f"  k{i}: v\n" for i in range(5_000)), "too-large"),
    "opening brackets": ("notes: " + "[" * 60_000, "too-deep"),
    "opening braces": ("notes: " + "{a: " * 15_000, "too-deep"),
    "dashes": ("notes:\n " + "- " * 30_000, "too-deep"),
    "a number of 5,000 digits": ("settings: {seed: " + "9" * 5000 + "}", "bad-yaml"),
}
MOST = {
    "settings": "epochs grow_steps validation lr final_lr momentum weight_decay batch_size growth_batches growth_batch_size",
    "data": "limit classes size",
    "Firefly": "new layers eps steps lr refine_steps points rounds",
    "RandomGrowth": "new eps draws",
    "GradientPool": "new",
    "Splitting": "eps step",
    "Net2Deeper": "layers",
    "NetworkMorphism": "wider layers",
    "NASH": "wider layers children steps lr momentum",
    "AutoGrow": "layers",
    "EveryEpochs": "epochs",
    "OnPlateau": "patience min_delta",
    "UntilNoGain": "epochs min_delta",
    "OnFullRank": "share threshold epochs",
    "ByPromise": "epochs window",
    "FastSplitting": "eps step steps",
    "GradMax": "new iterations",
    "TINY": "new step iterations",
    "budget": "neurons parameters multiply_adds activation_memory latency per_width layers round_to",
}
TRIGGERS = {"EveryEpochs", "OnPlateau", "UntilNoGain", "OnFullRank", "ByPromise"}
HUGE = ("1" + "0" * 18, LONG, "-" + LONG, "1e18", "1e999", "-1e999", ".inf", ".nan", "1e1000000")


def holding(part: str, field: str, value: str) -> str:
    """A recipe that says ``value`` in one field."""
    if part == "budget":
        return LEAST.replace(
            "{neurons: 0.3}",
            f"{{parameters: 1, {field}: {value}}}".replace("parameters: 1, par", "par"),
        )
    if part in TRIGGERS:
        return (
            f"{LEAST}settings: {{validation: 0.5, grow_when: {{name: {part}, {field}: {value}}}}}\n"
        )
    if part in ("settings", "data"):
        return f"{LEAST}{part}: {{{field}: {value}}}\n"
    return f"{LEAST}method: {{name: {part}, settings: {{{field}: {value}}}}}\n"


def refusal(text: str) -> FxgrowError:
    """The error, in one line, within a second of processor time; nothing was run."""
    Path("recipe.yaml").write_text(text)
    with within_a_second(), pytest.raises(FxgrowError) as caught:
        read_recipe(Path("recipe.yaml"))
    assert len(str(caught.value)) < 1500
    assert not CANARY.exists()
    return caught.value


@pytest.mark.parametrize(("text", "code"), TEXTS.values(), ids=TEXTS.keys())
def test_a_text_is_refused(text: str, code: str) -> None:
    assert refusal(text if text.startswith("%") else LEAST + text).code == code


@pytest.mark.parametrize("value", HUGE, ids=lambda value: value[:8])
@pytest.mark.parametrize(
    ("part", "field"), [(part, field) for part, names in MOST.items() for field in names.split()]
)
def test_a_number_beyond_its_range(part: str, field: str, value: str) -> None:
    error = refusal(holding(part, field, value))
    assert error.code in {"bad-value", "not-finite", "bad-budget", "empty-budget"}
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("settings", "epochs", "1000000000000"),
        ("settings", "grow_steps", "100000"),
        ("settings", "batch_size", "1000000000"),
        ("settings", "memory_limit", "1e30"),
        ("settings", "seed", "1000000000000000000000"),
        ("Firefly", "new", "1000000"),
        ("Firefly", "steps", "1000000"),
        ("RandomGrowth", "draws", "1000000"),
        ("data", "size", "100000"),
        ("data", "limit", "1000000000"),
    ],
)
def test_a_number_just_too_large(part: str, field: str, value: str) -> None:
    assert refusal(holding(part, field, value)).code == "bad-value"


@pytest.mark.parametrize(
    "data",
    [
        "{name: shapes, size: 4000}",
        "{name: digits, limit: 16000000, size: 4000}",
        "{limit: 16000000}",
    ],
)
def test_more_images_than_memory(data: str) -> None:
    error = refusal(f"{LEAST}data: {data}\n")
    assert error.code == "option"
    assert "ask for fewer or smaller ones" in str(error)


def test_a_sound_recipe_is_read() -> None:
    Path("recipe.yaml").write_text(holding("Firefly", "new", "50"))
    assert read_recipe(Path("recipe.yaml")).method.settings.new == 50


PATTERNS = ["scope: {only: [X]}", "scope: {ignore: [X]}", "scope: {tie: [[X]]}"]
for name in ("Firefly", "AutoGrow", "Net2Deeper", "NetworkMorphism", "NASH"):
    PATTERNS.append(f"method: {{name: {name}, settings: {{layers: 1, at: [X]}}}}")


@pytest.mark.parametrize("text", PATTERNS)
def test_a_pattern_that_would_take_hours(text: str) -> None:
    error = refusal(f"{LEAST}{text.replace('X', repr('[' * 5000))}\n")
    assert error.code == "too-large"
