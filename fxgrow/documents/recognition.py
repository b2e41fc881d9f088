"""What fxgrow writes, by content: one table of all directories, and how each of their files is told from others.

Only what is recognised here is ever deleted or overwritten. A file counts by what is in it, a directory if everything
in it counts, all the way down: ``config.json`` is a name that many tools use.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from fxgrow.documents import limits
from fxgrow.documents.atomic import ForeignCheck
from fxgrow.documents.parsing import parse_json, parse_yaml, yaml_text
from fxgrow.errors import SpecError

Recognizer = Callable[[Path], bool]
_HEAD = 2**16
"""Bytes of a file that are looked at where its beginning says enough."""


def _json(*keys: str) -> Recognizer:
    """A JSON document that has a version and these keys at its top."""
    return partial(_is_json, {"schema_version", *keys})


def _is_json(keys: set[str], path: Path) -> bool:
    data = _parsed(path)
    return isinstance(data, dict) and keys <= data.keys()


def _parsed(path: Path) -> Any:
    if path.stat().st_size > limits.CONFIG_BYTES:
        return None
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (SpecError, UnicodeDecodeError):
        return None


def _is_recipe(path: Path) -> bool:
    """As a run writes it: whoever has put a comment into it, or written it by hand, wants to keep it."""
    head = path.read_bytes()[: _HEAD + 1]
    try:
        text = head.decode()
        data = parse_yaml(text)
    except (SpecError, UnicodeDecodeError):
        return False
    ours = (
        isinstance(data, dict) and {"schema_version", "model", "settings", "budget"} <= data.keys()
    )
    return ours and yaml_text(data) == text


def _is_log(path: Path) -> bool:
    """Its first line is an event."""
    try:
        event = json.loads(_head(path).split(b"\n", 1)[0])
    except ValueError:
        return False
    return isinstance(event, dict) and "event" in event


def _is_weights(path: Path) -> bool:
    """Our files of tensors say whose architecture they belong to."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return "fingerprint" in (file.metadata() or {})
    except SafetensorError:
        return False


def _is_master_tensors(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return all(re.match(r"(union|\d+)/", name) for name in file.keys())  # noqa: SIM118
    except SafetensorError:
        return False


def begins_with(*beginnings: bytes) -> Recognizer:
    """A file that begins with one of these."""
    return lambda path: _head(path).startswith(beginnings)


def contains_bytes(words: bytes) -> Recognizer:
    """A file with these words near its beginning."""
    return lambda path: words in _head(path)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


@dataclass(frozen=True)
class DirectoryFormat:
    """A directory by its entries, whose names are regular expressions. One of ``markers`` makes it what it is."""

    entries: Mapping[str, "Recognizer | DirectoryFormat"]
    markers: frozenset[str] = field(default=frozenset())


is_source = begins_with(b'"""A network written by fxgrow')
is_genotype = _json("normal", "reduce")
is_schema = partial(_is_json, {"$schema", "title"})
_is_search = _json("method", "settings", "space", "genotype", "multiply_adds")
_is_run = _json("model", "data", "settings", "params_before", "params_after", "steps")
_is_continual = _json("plan", "labels", "outcomes", "accuracies")


def _is_result(path: Path) -> bool:
    return _is_run(path) or _is_continual(path)


SPEC_DIRECTORY = DirectoryFormat(
    {
        r"config\.json": _json("fingerprint", "inputs", "nodes", "cost"),
        r"model\.safetensors": _is_weights,
    },
    frozenset({"config.json"}),
)
ARCHITECTURE_FILE = DirectoryFormat(
    {r"config\.json": SPEC_DIRECTORY.entries[r"config\.json"]}, SPEC_DIRECTORY.markers
)
RUN_DIRECTORY = DirectoryFormat(
    {
        **SPEC_DIRECTORY.entries,
        r"initial": SPEC_DIRECTORY,
        r"recipe\.yaml": _is_recipe,
        r"result\.json": _is_result,
        r"log\.jsonl": _is_log,
    },
    frozenset({"config.json", "result.json"}),
)
MASTER_DIRECTORY_FORMAT = DirectoryFormat(
    {
        r"master\.json": _json("head", "settings", "union", "tasks", "tensors"),
        r"master\.safetensors": _is_master_tensors,
    },
    frozenset({"master.json"}),
)
CONTINUAL_DIRECTORY = DirectoryFormat(
    {r"result\.json": _is_continual, r"master": MASTER_DIRECTORY_FORMAT}, frozenset({"result.json"})
)
SEARCH_DIRECTORY = DirectoryFormat(
    {r"search\.json": _is_search, r"genotype\.json": is_genotype}, frozenset({"search.json"})
)
HUB_DIRECTORY = DirectoryFormat(
    {
        **SPEC_DIRECTORY.entries,
        r"README\.md": begins_with(b"---\nlibrary_name: fxgrow\n"),
        r"model\.py": is_source,
    },
    SPEC_DIRECTORY.markers,
)
GRAPH_DUMP_DIRECTORY = DirectoryFormat({r"step\d+\.(overgrown|emitted)\.txt": begins_with(b"%")})
ANY_DIRECTORY = DirectoryFormat(
    {
        **RUN_DIRECTORY.entries,
        **CONTINUAL_DIRECTORY.entries,
        **SEARCH_DIRECTORY.entries,
        **MASTER_DIRECTORY_FORMAT.entries,
        r"result\.json": _is_result,
    },
    RUN_DIRECTORY.markers
    | CONTINUAL_DIRECTORY.markers
    | SEARCH_DIRECTORY.markers
    | MASTER_DIRECTORY_FORMAT.markers,
)
"""What a run, a search, a stream of tasks or a save leaves behind."""


def foreign_in_directory(folder: DirectoryFormat, *, strangers_stay: bool = False) -> ForeignCheck:
    """What keeps a directory from being replaced as a ``folder``: the first entry that fxgrow did not write.

    ``strangers_stay``: entries of other names do not count, for they will be kept.
    """

    def stranger(path: Path) -> str | None:
        if path.is_symlink() or not path.is_dir():
            return "it is no directory"
        found = _first_stranger(path, folder, strangers_stay=strangers_stay)
        if found is not None:
            return f"it holds {str(found.relative_to(path))!r}, which fxgrow did not write"
        held = {entry.name for entry in path.iterdir()}
        if held and folder.markers and not held & folder.markers:
            return f"it holds no {' or '.join(sorted(folder.markers))}"
        return None

    return stranger


def _first_stranger(
    path: Path, folder: DirectoryFormat, strangers_stay: bool = False
) -> Path | None:
    for entry in sorted(path.iterdir()):
        known = next(
            (known for name, known in folder.entries.items() if re.fullmatch(name, entry.name)),
            None,
        )
        if known is None and strangers_stay:
            continue
        if isinstance(known, DirectoryFormat) and entry.is_dir() and not entry.is_symlink():
            inside = _first_stranger(entry, known)
            if inside is not None:
                return inside
        elif known is None or isinstance(known, DirectoryFormat) or not is_recognized(entry, known):
            return entry
    return None


def is_recognized(path: Path, known: Recognizer) -> bool:
    """Whether ``path`` is a regular file, no link, that ``known`` takes for ours."""
    return path.is_file() and not path.is_symlink() and known(path)


def foreign_file(known: Recognizer) -> ForeignCheck:
    """What keeps a file from being replaced by another one of its kind; an empty one may always go."""

    def stranger(path: Path) -> str | None:
        if path.is_symlink() or not path.is_file():
            return "it is no regular file"
        if path.stat().st_size == 0 or known(path):
            return None
        return "its content is not of the kind that would be written"

    return stranger
