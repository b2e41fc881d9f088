"""What an attack is, and the proof that it fails: the code, the place, in no time, and nothing executed."""

import copy
import gc
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fxgrow.errors import SpecError
from fxgrow.spec import load
from tools.fuzzing.bases import Base
from tools.fuzzing.mutations import sealed

Json = dict[str, Any]
Change = Callable[[Json], object]

CANARY = Path("canary")
# Python that would leave a file in the current directory.
PAYLOAD = "__import__('pathlib').Path('canary').touch()"
X = {"node": "x"}


@dataclass(frozen=True)
class Attack:
    """One way to damage a sound config, why, and how it has to be refused.

    ``path`` names nodes, modules and tensors by name where the error counts them. A file's name: the error is about
    the file. Unless ``sealed`` is false, fingerprint, weights and digest are made to fit the damaged config, so that no
    checksum can hide that the rule is missing.
    """

    aim: str
    change: Change
    code: str
    path: str
    sealed: bool = True


def ids(attacks: tuple[Attack, ...]) -> list[str]:
    return [attack.aim for attack in attacks]


def node(config: Json, name: str) -> Json:
    return _named(config["nodes"], name)


def module(config: Json, name: str) -> Json:
    return _named(config["modules"], name)


def tensor(config: Json, name: str) -> Json:
    return _named(config["parameters"] + config["buffers"], name)


def _named(items: list[Json], name: str) -> Json:
    return next(item for item in items if item["name"] == name)


def call(target: str, *args: Any, op: str = "call_function", kwargs: Json | None = None) -> Change:
    """The node ``flatten`` calls something else."""
    return lambda config: node(config, "flatten").update(
        op=op, target=target, args=list(args), kwargs=kwargs or {}
    )


def config_of(name: str, **values: Any) -> Change:
    """Other constructor arguments of one module."""
    return lambda config: module(config, name)["config"].update(values)


def becomes(name: str, type_name: str, **values: Any) -> Change:
    """One module is of another class."""
    return lambda config: module(config, name).update(type=type_name, config=values)


def written(base: Base, directory: Path, change: Change, *, seal: bool = True) -> Path:
    """A directory with the changed config."""
    config = copy.deepcopy(base.config)
    change(config)
    weights = sealed(config, base.weights) if seal else base.weights
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "model.safetensors").write_bytes(weights)
    return directory


@contextmanager
def within_a_second() -> Iterator[None]:
    """The body takes less than a second of processor time, in which no garbage is collected.

    A collection goes through everything that earlier tests left, up to two thirds of a second.
    """
    gc.disable()
    try:
        start = time.process_time()
        yield
        took = time.process_time() - start
    finally:
        gc.enable()
    assert took < 1, f"it took {took:.2f} s"


def assert_refused(directory: Path, code: str, path: str) -> SpecError:
    """Loading raises SpecError with this code and path, within a second of processor time, and touches nothing."""
    before = sorted(item.name for item in directory.iterdir())
    with within_a_second(), pytest.raises(SpecError) as caught:
        load(directory)
    assert (caught.value.code, Path(caught.value.path).name) == (code, path), caught.value
    assert len(str(caught.value)) < 1500
    assert not CANARY.exists()
    assert sorted(item.name for item in directory.iterdir()) == before
    return caught.value


def assert_fails(attack: Attack, base: Base, directory: Path) -> None:
    """The attack on ``base`` is refused as it says."""
    target = written(base, directory, attack.change, seal=attack.sealed)
    assert_refused(target, attack.code, _counted(attack.path, target))


def _counted(path: str, directory: Path) -> str:
    """``nodes[flatten].target`` with the node's number in place of its name."""
    kind, _, rest = path.partition("[")
    name, _, tail = rest.partition("]")
    if kind not in ("nodes", "modules") or name.isdigit() or not name:
        return path
    items = json.loads((directory / "config.json").read_text())[kind]
    return (
        f"{kind}[{next(index for index, item in enumerate(items) if item['name'] == name)}]{tail}"
    )
