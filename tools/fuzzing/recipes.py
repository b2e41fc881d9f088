"""Damaged recipes: read, and model and data looked up, as ``fxgrow run`` does before it trains."""

import os
import random
from pathlib import Path

import torch
from PIL import Image
from torch import fx

from fxgrow.cli.model_and_data import load_model_and_data, lower_model
from fxgrow.cli.resolve import resolve
from fxgrow.cli.trust import trust_modules
from fxgrow.data import load_data
from fxgrow.spec import describe, save
from fxgrow.training import read_recipe
from tools.fuzzing.bases import Plain
from tools.fuzzing.damage import Damaged, bytes_damaged
from tools.fuzzing.verdicts import Verdict, verdict_of

RECIPE = "recipe.yaml"
CANARY = "CANARY"
MODEL = "model"
NO_TRUST = trust_modules(())
"""What ``fxgrow run`` trusts without ``--trust``."""
_REST = "method:\n  name: Firefly\n  settings:\n    new: 2\nbudget:\n  neurons: 0.3\nnotes:\n  data: small\n"
_SETTINGS = "settings:\n  epochs: 3\n  grow_steps: 2\n  lr: 0.1\n  batch_size: 4\n  seed: 0\n"
_HEAD = "schema_version: 2\nmodel: {model}\ndata:\n  name: {data}\n  limit: 20\n{more}"

BASES: tuple[str, ...] = tuple(
    _HEAD.format(model=model, data=data, more=more) + _SETTINGS + _REST
    for model, data, more in (
        (MODEL, "digits", "  size: 8\n"),
        ("torchvision:squeezenet1_1?num_classes=10", "digits", "  size: 32\n  classes: 10\n"),
        (f"directory:{MODEL}?width=0.5", "digits", "  size: 8\n"),
        (MODEL, "imagefolder", "  root: pictures\n  size: 8\n"),
        (MODEL, "cifar10", "  root: nothing\nscope:\n  only: ['*']\nlower: true\n"),
    )
)
HOSTILE = (
    "os:system?command=touch CANARY", "os:system?command=touch%20CANARY",
    "subprocess:getoutput?cmd=touch CANARY", "posix:system?command=touch+CANARY",
    "os:mkdir?path=CANARY", "pathlib:Path.touch?self=CANARY", "os:mknod?path=CANARY",
    "builtins:eval?source=__import__('os').mkdir('CANARY')",
    "timeit:timeit?stmt=__import__('os').mkdir('CANARY')", "python:os:system?command=touch CANARY",
    "this:s", "payload:make", "payload:", ":make", "os.path:", "..:x",
    "!!python/object/apply:os.system ['touch CANARY']", "!!python/name:os.system", "!payload x",
    "&a [*a]", "*a", "&a {<<: *a}", "<<: {a: 1}", "!!binary eA==", "!!set {a}", "2001-01-01",
    "0o17", "0x10", "1_000", "yes", "~", ".inf", "-.inf", ".nan", "1e999", "-1e308", "1e-999",
    "-0.0", "0", "-1", "2147483648", "9223372036854775807", "9223372036854775808",
    "18446744073709551616", "9" * 400, "9" * 5000, "true", "null", "''", "[]", "{}", "[[[[]]]]",
    "[" * 300, "{a: " * 100, "'unclosed", "\"\\uD800\"", "\"\\e[2J\"", "\"\\0\"", "| text",
    "> text", "x" * 5000, "é", "\u202e", "../../../../etc/passwd", "/dev/zero", "/proc/self/mem",
    "/", ".", "pipe", "loop", MODEL, "pictures", "torchvision:", "torchvision:resnet",
    "torchvision:squeezenet1_1?num_classes=-1", "torchvision:squeezenet1_1?num_classes=0",
    "torchvision:squeezenet1_1?num_classes=99999999999", "torchvision:squeezenet1_1?width=1e300",
    "torchvision:list_models", "torchvision:squeezenet1_1?width=0",
    "torchvision:squeezenet1_1?input=99999999999x1x1", "torchvision:squeezenet1_1?%ff",
    "torchvision:squeezenet1_1?input=3x1x1", "torchvision:squeezenet1_1?dropout=nan",
    "torchvision:squeezenet1_1?version=9", "torchvision:mnasnet0_5?num_classes=10&num_classes=10",
    "directory:", f"directory:{MODEL}?x=1", f"{MODEL}?width=0.001",
    f"directory:{MODEL}?input=1x8x8", f"directory:{MODEL}?width=nan", "directory:loop",
    "directory:pipe", "https://example.com/x", "digits", "shapes", "cifar100", "imagefolder",
    "Splitting", "RandomGrowth",
)  # fmt: skip
LINES = (
    "trust: true",
    "  trust: [os:system]",
    "<<: *a",
    "? [a]: b",
    "--- x",
    "...",
    "%YAML 9.9",
    "\t",
    "- x",
    "# x",
)


def bases(_: int) -> tuple[str, ...]:
    """The sound recipes."""
    return BASES


def furnish(directory: Path) -> None:
    """What the recipes speak of: a saved model, pictures, and things that are neither. What is slow once is done."""
    load_data("digits", size=8)
    resolve("torchvision:squeezenet1_1")
    torch.manual_seed(0)
    net = Plain()
    head = torch.nn.Sequential(
        net.conv, net.norm, torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    model = fx.symbolic_trace(torch.nn.Sequential(*head, torch.nn.Linear(3, 10)).eval())
    save(model, directory / MODEL, describe(model, (torch.randn(1, 2, 8, 8),)))
    for split in ("train", "test"):
        for number in range(10):
            (directory / "pictures" / split / str(number)).mkdir(parents=True)
            Image.new("L", (4, 4), number).save(
                directory / "pictures" / split / str(number) / "0.png"
            )
    os.mkfifo(directory / "pipe")
    (directory / "loop").symlink_to("loop")
    (directory / "payload.py").write_text(
        f"open({CANARY!r}, 'w').close()\n\n\ndef make():\n    pass\n"
    )


def mutate(base: str, rng: random.Random) -> Damaged:
    """A recipe with one to three values, lines or bytes changed."""
    text, done = base, []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name = rng.choice(list(CHANGES))
        done.append(name)
        text = CHANGES[name](text, rng)
    data = text.encode(errors="surrogatepass")
    if rng.random() < 0.15:
        data, kind = bytes_damaged(data, rng)
        done.append(kind)
    return Damaged({RECIPE: data}, tuple(done))


def _value(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    number = rng.randrange(len(lines))
    if ": " in lines[number]:
        lines[number] = f"{lines[number].partition(': ')[0]}: {rng.choice(HOSTILE)}"
    return "\n".join(lines)


def _model(text: str, rng: random.Random) -> str:
    lines = [
        f"model: {rng.choice(HOSTILE)}" if line.startswith("model:") else line
        for line in text.split("\n")
    ]
    return "\n".join(lines)


def _root(text: str, rng: random.Random) -> str:
    return text.replace("data:\n", f"data:\n  root: {rng.choice(HOSTILE)}\n", 1)


def _move(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    lines.insert(rng.randrange(len(lines)), lines.pop(rng.randrange(len(lines))))
    return "\n".join(lines)


def _drop(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    del lines[rng.randrange(len(lines))]
    return "\n".join(lines)


def _repeat(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    lines.insert(rng.randrange(len(lines)), rng.choice((*lines, *LINES)))
    return "\n".join(lines)


def _indent(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    number = rng.randrange(len(lines))
    lines[number] = rng.choice(
        (lines[number].lstrip(), f"  {lines[number]}", f"\t{lines[number]}", f"- {lines[number]}")
    )
    return "\n".join(lines)


def _number(text: str, rng: random.Random) -> str:
    places = [place for place, letter in enumerate(text) if letter.isdecimal()]
    if not places:
        return text
    place = rng.choice(places)
    return (
        text[:place]
        + rng.choice(("-", "0", "1", "2", "9", ".", "e9", "e-9", "", "1" * 30))
        + text[place + 1 :]
    )


CHANGES = {
    "value": _value, "hostile model": _model, "root": _root, "move": _move, "drop": _drop, "repeat": _repeat,
    "indent": _indent, "number": _number,
}  # fmt: skip


def judge(made: Damaged, directory: Path) -> Verdict:
    """Whether a recipe is read and its model and data found, or refused, and nothing run."""
    path = directory / RECIPE
    path.write_bytes(made.files[RECIPE])

    def attempt() -> bool:
        recipe = read_recipe(path)
        seed = recipe.settings.seed
        found, _ = load_model_and_data(recipe.model, recipe.data, seed=seed, trust=NO_TRUST)
        if recipe.lower:
            lower_model(found)
        return True

    return verdict_of(attempt)
