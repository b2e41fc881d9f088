"""JSON that is too much, too deep, ambiguous, or written to deceive whoever prints it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attacks.attacking import Attack, Json, X, assert_fails, assert_refused, call, ids
from tools.fuzzing.bases import Base

MEGA = 2**20
TEXTS: dict[str, tuple[Callable[[], str | bytes], str, str]] = {
    "nothing": (lambda: "", "bad-json", "config.json"),
    "opening brackets": (lambda: "[" * 8 * MEGA, "too-large", "config.json"),
    "fewer opening brackets": (lambda: "[" * 10**5, "too-deep", "config.json"),
    "opening objects": (lambda: '{"a":' * 10**5, "too-deep", "config.json"),
    "sixty-five levels": (lambda: "[" * 65 + "]" * 65, "too-deep", "config.json"),
    "a bomb of empty lists": (lambda: "[" + "[]," * 2 * MEGA + "[]]", "too-large", "config.json"),
    "a bomb of small objects": (lambda: "[" + '{"":0},' * MEGA + "[]]", "too-large", "config.json"),
    "more bytes than the limit": (lambda: " " * (64 * MEGA + 1), "too-large", "config.json"),
    "a number of 5,000 digits": (
        lambda: '{"schema_version": ' + "9" * 5000 + "}",
        "bad-json",
        "config.json",
    ),
    "a repeated key": (lambda: '{"nodes": [], "nodes": []}', "bad-json", "config.json"),
    "a repeated key in another spelling": (
        lambda: '{"nodes": [], "\\u006eodes": []}',
        "bad-json",
        "config.json",
    ),
    "not UTF-8": (lambda: b'{"\xff": 1}', "bad-json", "config.json"),
    "UTF-16": (lambda: '{"a": 1}'.encode("utf-16"), "bad-json", "config.json"),
    "a byte order mark": (lambda: b"\xef\xbb\xbf{}", "bad-json", "config.json"),
    "NaN": (lambda: '{"a": NaN}', "bad-json", "config.json"),
    "an infinite number": (lambda: '{"a": [1e999]}', "not-finite", "a[0]"),
    "half of a surrogate pair": (lambda: '{"a": "\\ud800"}', "bad-text", "a"),
    "a second document": (lambda: "{} {}", "bad-json", "config.json"),
    "a pickle": (
        lambda: b"\x80\x04cposix\nsystem\n(S'touch canary'\ntR.",
        "bad-json",
        "config.json",
    ),
}


@pytest.mark.parametrize(("text", "code", "path"), TEXTS.values(), ids=TEXTS.keys())
def test_a_text_is_refused(
    text: Callable[[], str | bytes], code: str, path: str, tmp_path: Path
) -> None:
    made = text()
    (tmp_path / "config.json").write_bytes(made if isinstance(made, bytes) else made.encode())
    assert_refused(tmp_path, code, path)


def test_a_spec_with_a_repeated_key_is_refused(base: Base, tmp_path: Path) -> None:
    text = json.dumps(base.config).replace('"shape"', '"shape": [9], "shape"', 1)
    (tmp_path / "config.json").write_text(text)
    assert_refused(tmp_path, "bad-json", "config.json")


def key(name: str) -> Callable[[Json], object]:
    return lambda config: config["versions"].update({name: "1"})


ATTACKS = (
    Attack(
        "a terminal cleared by an argument",
        call("torch.flatten", X, "\x1b[2J"),
        "bad-text",
        "nodes[flatten].args[1]",
    ),
    Attack("a terminal cleared by a key", key("\x1b]0;title\x07"), "bad-text", "versions"),
    Attack(
        "a terminal cleared by an unknown key",
        lambda c: c.update({"\x9b2J": 1}),
        "bad-text",
        "config.json",
    ),
    Attack("text that runs backwards", key("\u202e"), "bad-text", "versions"),
    Attack("a null byte", lambda c: c["versions"].update(torch="\0"), "bad-text", "versions.torch"),
    Attack(
        "an unknown key", lambda c: c["nodes"][0].update(code="1"), "unknown-key", "nodes.0.code"
    ),
    Attack(
        "an unknown kind of argument",
        call("torch.flatten", {"eval": "1"}),
        "bad-value",
        "nodes.5.args.0",
    ),
    Attack(
        "two kinds of argument",
        call("torch.flatten", {"node": "x", "tuple": []}),
        "bad-value",
        "nodes.5.args.0",
    ),
    Attack("no key", lambda c: c.pop("cost"), "missing-key", "cost"),
    Attack(
        "a version that is none",
        lambda c: c.update(schema_version=2.0),
        "schema-version",
        "schema_version",
    ),
    Attack(
        "true as a version",
        lambda c: c.update(schema_version=True),
        "schema-version",
        "schema_version",
    ),
)


@pytest.mark.parametrize("attack", ATTACKS, ids=ids(ATTACKS))
def test_it_is_refused(attack: Attack, base: Base, tmp_path: Path) -> None:
    assert_fails(attack, base, tmp_path / "hostile")
