"""Damage: changes of a config's JSON values, seals that hide them, flipped and lost bytes.

A mutation takes a random generator, the whole config and the path of one place in it, and changes the config.
"""

import contextlib
import copy
import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from safetensors.torch import save

from fxgrow.errors import SpecError
from fxgrow.spec.allowlist_tables import CLASSES, FUNCTIONS, METHODS
from fxgrow.spec.arguments import DTYPES
from fxgrow.spec.fingerprint import fingerprint
from fxgrow.spec.load import parse_spec
from tools.fuzzing.bases import Base, places

Place = tuple[Any, ...]
Mutation = Callable[[random.Random, Any, Place], None]

NODE = {"node": "x"}
JUNK: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 2**31, 2**48, 2**63 - 1, 2**64, 10**30, 0.0, -0.0, 0.5, 1e-5, 1e308, -1.5,
    "", "x", "cpu", "float16", "self", "__class__", "import os", "a;b", "x" * 600, "\0", "\u202e", "é", "ﬁ", "relu",
    [], {}, [0], [[]], {"": 0}, {"a": {"b": {}}}, NODE, {"node": "nobody"}, {"tuple": []}, {"tuple": [1, 2]},
    {"list": [NODE]}, {"mapping": {"a": 1}}, {"slice": [None, 1, None]}, {"dtype": "float64"}, {"device": "cuda:99"},
    {"number": "nan"}, {"number": "-inf"}, {"ellipsis": True}, {"memory_format": "channels_last"}, {"code": "1"},
)  # fmt: skip
TARGETS = sorted(
    [f"{module}.{name}" for module, names in FUNCTIONS.items() for name in names]
    + [f"torch.ops.aten.{name}.default" for name in ("add", "relu", "detach", "set_", "from_file")]
)
TYPES = sorted(f"{module}.{name}" for module, names in CLASSES.items() for name in names)
METHOD_NAMES = sorted(METHODS)
# Seldom enough that most weights are rewritten in no time.
SEALED_BYTES = 2**16


@dataclass(frozen=True)
class Mutant:
    """The two files of a damaged directory, and what was done."""

    config: bytes
    weights: bytes
    done: tuple[str, ...]


def at(config: Any, place: Place) -> Any:
    """The value at a path."""
    for key in place:
        config = config[key]
    return config


def _put(config: Any, place: Place, value: Any) -> None:
    at(config, place[:-1])[place[-1]] = value


def _junk(rng: random.Random, config: Any, place: Place) -> None:
    _put(config, place, copy.deepcopy(rng.choice(JUNK)))


def _delete(_: random.Random, config: Any, place: Place) -> None:
    del at(config, place[:-1])[place[-1]]


def _repeat(rng: random.Random, config: Any, place: Place) -> None:
    holder = at(config, place[:-1])
    if isinstance(holder, list):
        holder.insert(rng.randrange(len(holder) + 1), copy.deepcopy(holder[place[-1]]))


def _swap(rng: random.Random, config: Any, place: Place) -> None:
    holder = at(config, place[:-1])
    other = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    holder[place[-1]], holder[other] = holder[other], holder[place[-1]]


def _transplant(rng: random.Random, config: Any, place: Place) -> None:
    """A value of the same type from elsewhere."""
    wanted = type(at(config, place))
    donors = [other for other in places(config)[1:] if type(at(config, other)) is wanted]
    _put(config, place, copy.deepcopy(at(config, rng.choice(donors))))


def _number(rng: random.Random, config: Any, place: Place) -> None:
    value = at(config, place)
    if isinstance(value, int | float):
        _put(
            config,
            place,
            rng.choice(
                (value + 1, value - 1, value * 2, -value, value * 1.0, bool(value), value / 3)
            ),
        )


def _rename(rng: random.Random, config: Any, place: Place) -> None:
    """One string, everywhere it is used."""
    old = at(config, place)
    if isinstance(old, str):
        new = rng.choice(
            (f"{old}_1", f"{old}x", old.upper(), f"{old}.{old}", "len", "input", "torch", "renamed")
        )
        for other in places(config)[1:]:
            if at(config, other) == old:
                _put(config, other, new)


def _retarget(rng: random.Random, config: Any, _: Place) -> None:
    """Another function, method or class that may be named."""
    if config["modules"] and rng.random() < 0.3:
        rng.choice(config["modules"])["type"] = rng.choice(TYPES)
    else:
        node = rng.choice(config["nodes"])
        node["op"] = rng.choice(("call_function", "call_function", "call_method"))
        node["target"] = rng.choice(METHOD_NAMES if node["op"] == "call_method" else TARGETS)


def _insert(rng: random.Random, config: Any, _: Place) -> None:
    """A node more, that nobody reads."""
    index = rng.randrange(1, len(config["nodes"]))
    args = [
        {"node": rng.choice(config["nodes"][:index])["name"]},
        *rng.choices(JUNK, k=rng.randrange(3)),
    ]
    function = {"op": "call_function", "target": rng.choice(TARGETS)}
    method = {"op": "call_method", "target": rng.choice(METHOD_NAMES)}
    config["nodes"].insert(
        index, {"name": f"more_{rng.randrange(9)}", "args": args, **rng.choice((function, method))}
    )


def _retype(rng: random.Random, config: Any, _: Place) -> None:
    item = rng.choice(config.get("parameters", []) + config.get("buffers", []) + config["inputs"])
    item["dtype"] = rng.choice(list(DTYPES))


def _note(rng: random.Random, config: Any, _: Place) -> None:
    """Something that the fingerprint does not cover."""
    change: Callable[[], object] = rng.choice(
        (
            lambda: config.update(versions={"torch": rng.choice(("0", "x" * 99, ""))}),
            lambda: config["cost"].update(parameters=rng.randrange(2**62)),
            lambda: rng.choice(config["nodes"]).update(
                provenance={"rule": rng.choice(("a", 'b"', "c\\", ""))}
            ),
            lambda: rng.choice(config["parameters"]).update(
                requires_grad=rng.choice((True, False))
            ),
            lambda: config.update(widths=[], history=[]),
        )
    )
    change()


MUTATIONS: dict[str, Mutation] = {
    "junk": _junk, "delete": _delete, "repeat": _repeat, "swap": _swap, "transplant": _transplant, "number": _number,
    "rename": _rename, "retarget": _retarget, "insert": _insert, "retype": _retype, "note": _note,
}  # fmt: skip


def mutant(base: Base, rng: random.Random) -> Mutant:
    """A damaged copy of ``base``: four of five times its JSON values, else its bytes."""
    if rng.random() < 0.2:
        return _bytes(base, rng)
    config = copy.deepcopy(base.config)
    done = rng.choices(list(MUTATIONS), k=rng.choice((1, 1, 1, 2, 3)))
    for name in done:
        # An earlier mutation may have taken away what this one needs.
        with contextlib.suppress(LookupError, TypeError, AttributeError, ValueError):
            MUTATIONS[name](rng, config, rng.choice(places(config)[1:]))
    weights = base.weights
    if rng.random() < 0.9:
        done.append("seal")
        weights = sealed(config, base.weights)
    return Mutant(json.dumps(config).encode(), weights, tuple(done))


def sealed(config: Any, weights: bytes) -> bytes:
    """Makes fingerprint, weights and digest fit the config again, as anyone can who knows the format."""
    with contextlib.suppress(
        SpecError, LookupError, TypeError, AttributeError
    ):  # too broken to have them
        spec = parse_spec(json.dumps(config))
        config["fingerprint"] = fingerprint(spec)
        stored = [item for item in spec.tensors if item.tied_to is None]
        if sum(prod(item.shape) for item in stored) > SEALED_BYTES:
            return weights
        tensors = {item.name: torch.ones(item.shape, dtype=DTYPES[item.dtype]) for item in stored}
        weights = save(tensors, metadata={"fingerprint": config["fingerprint"]})
        config["weights"] = {"sha256": hashlib.sha256(weights).hexdigest()}
    return weights


def _bytes(base: Base, rng: random.Random) -> Mutant:
    files = [json.dumps(base.config).encode(), base.weights]
    which = rng.randrange(2)
    data = bytearray(files[which])
    # The header of a weights file is where it can be wrong in an interesting way.
    end = 400 if which and rng.random() < 0.7 else len(data)
    kind = rng.choice(("flip", "cut", "insert", "overwrite"))
    start = rng.randrange(min(end, len(data)))
    if kind == "flip":
        data[start] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del data[start : rng.choice((start + 1, start + 8, len(data)))]
    elif kind == "insert":
        data[start:start] = rng.choice((b"\0", b'"', b"{", b"[" * 99, rng.randbytes(8)))
    else:
        data[start : start + 8] = rng.randbytes(8)
    files[which] = bytes(data)
    return Mutant(files[0], files[1], (kind, ("config.json", "model.safetensors")[which]))
