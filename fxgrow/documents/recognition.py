"""Tell by content what fxgrow has written: one table of all directories and of the files in them.

Only what is recognized here is ever deleted or overwritten. A file counts by its content, a
directory if everything in it counts, at every depth: ``config.json`` is a name that many tools
use.
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
"""Whether fxgrow wrote the file, a regular one."""
# Bytes that are read of a file whose beginning is enough to recognize it.
_HEAD_BYTES = 2**16
_RECIPE_KEYS = {"schema_version", "model", "settings", "budget"}
# The tensors of the shared network, and those of a task by its number.
_MASTER_TENSOR = re.compile(r"(union|\d+)/")


def _json_with(*keys: str) -> Recognizer:
    """Recognize a JSON document that has a version and these keys at its top level."""
    return partial(_is_json_with, {"schema_version", *keys})


def _is_json_with(keys: set[str], path: Path) -> bool:
    data = _parse_if_json(path)
    return isinstance(data, dict) and keys <= data.keys()


def _parse_if_json(path: Path) -> Any:
    """Return the data of a JSON file; None if it is too large or not JSON."""
    if path.stat().st_size > limits.CONFIG_BYTES:
        return None
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (SpecError, UnicodeDecodeError):
        return None


def _is_recipe(path: Path) -> bool:
    """Recognize a recipe exactly as a run writes it.

    Someone who has put a comment into it, or has written it by hand, wants to keep it.
    """
    with path.open("rb") as file:
        # One byte more than the parser accepts, so that a longer file is refused.
        head = file.read(_HEAD_BYTES + 1)
    try:
        text = head.decode()
        data = parse_yaml(text)
    except (SpecError, UnicodeDecodeError):
        return False
    is_recipe = isinstance(data, dict) and data.keys() >= _RECIPE_KEYS
    return is_recipe and yaml_text(data) == text


def _is_log(path: Path) -> bool:
    """Recognize a log: its first line is an event."""
    first_line = _head(path).split(b"\n", 1)[0]
    try:
        event = json.loads(first_line)
    except (ValueError, RecursionError):
        return False
    return isinstance(event, dict) and "event" in event


def _is_weights(path: Path) -> bool:
    """Recognize a file of weights: its metadata holds the fingerprint of its architecture."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return "fingerprint" in (file.metadata() or {})
    except SafetensorError:
        return False


def _is_master_tensors(path: Path) -> bool:
    """Recognize the tensors of a master network by their names."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return all(map(_MASTER_TENSOR.match, file.keys()))
    except SafetensorError:
        return False


def _is_any(path: Path) -> bool:  # noqa: ARG001 - the form of a recognizer
    """Recognize any regular file."""
    return True


def begins_with(*beginnings: bytes) -> Recognizer:
    """Recognize a file that begins with one of these."""
    return lambda path: _head(path).startswith(beginnings)


def contains_bytes(words: bytes) -> Recognizer:
    """Recognize a file that holds these bytes near its beginning."""
    return lambda path: words in _head(path)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


@dataclass(frozen=True)
class DirectoryFormat:
    """A kind of directory that fxgrow writes.

    Args:
        entries: regular expression of a name -> what an entry of that name has to be.
        markers: names of entries; a directory without any of them is not of this kind.
    """

    entries: Mapping[str, "Recognizer | DirectoryFormat"]
    markers: frozenset[str] = field(default=frozenset())


is_source = begins_with(b'"""A network written by fxgrow')
is_genotype = _json_with("normal", "reduce")
is_schema = partial(_is_json_with, {"$schema", "title"})
_is_search = _json_with("method", "settings", "space", "genotype", "multiply_adds")
_is_run = _json_with("model", "data", "settings", "params_before", "params_after", "steps")
_is_continual = _json_with("plan", "labels", "outcomes", "accuracies")


def _is_result(path: Path) -> bool:
    return _is_run(path) or _is_continual(path)


SPEC_DIRECTORY = DirectoryFormat(
    {
        r"config\.json": _json_with("fingerprint", "inputs", "nodes", "cost"),
        r"model\.safetensors": _is_weights,
    },
    frozenset({"config.json"}),
)
ARCHITECTURE_FILE = DirectoryFormat(
    {r"config\.json": SPEC_DIRECTORY.entries[r"config\.json"]}, SPEC_DIRECTORY.markers
)
# TensorBoard's own form: its version is in the first record.
EVENTS_DIRECTORY = DirectoryFormat({r"events\.out\.tfevents\..*": contains_bytes(b"brain.Event:")})
RUN_DIRECTORY = DirectoryFormat(
    {
        **SPEC_DIRECTORY.entries,
        r"initial": SPEC_DIRECTORY,
        r"recipe\.yaml": _is_recipe,
        r"result\.json": _is_result,
        r"log\.jsonl": _is_log,
        r"metrics\.csv": begins_with(b"event,epoch,optimizer_step,loss/train,"),
        r"tensorboard": EVENTS_DIRECTORY,
    },
    frozenset({"config.json", "result.json"}),
)
MASTER_DIRECTORY_FORMAT = DirectoryFormat(
    {
        r"master\.json": _json_with("head", "settings", "union", "tasks", "tensors"),
        r"master\.safetensors": _is_master_tensors,
    },
    frozenset({"master.json"}),
)
CONTINUAL_DIRECTORY = DirectoryFormat(
    {r"result\.json": _is_continual, r"master": MASTER_DIRECTORY_FORMAT},
    frozenset({"result.json"}),
)
SEARCH_DIRECTORY = DirectoryFormat(
    {r"search\.json": _is_search, r"genotype\.json": is_genotype},
    frozenset({"search.json"}),
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
CHECKPOINT_DIRECTORY = DirectoryFormat(
    {r"(config|state|manifest)\.json|state\.safetensors": _is_any}, frozenset()
)
UNFINISHED_DIRECTORY = DirectoryFormat(
    {
        r"lock|run\.json|recipe\.yaml|(log|metrics)\.(jsonl|csv|partial)": _is_any,
        r"checkpoint(-\d+|\.partial)": CHECKPOINT_DIRECTORY,
        r"tensorboard": DirectoryFormat({r"events\.out\.tfevents\..*": _is_any}),
    }
)
"""A run that was stopped. By names alone: it may be killed while it writes any of these files."""
ANY_DIRECTORY = DirectoryFormat(
    {
        **RUN_DIRECTORY.entries,
        **CONTINUAL_DIRECTORY.entries,
        **SEARCH_DIRECTORY.entries,
        **MASTER_DIRECTORY_FORMAT.entries,
        r"result\.json": _is_result,  # of a run or of a stream of tasks
    },
    RUN_DIRECTORY.markers
    | CONTINUAL_DIRECTORY.markers
    | SEARCH_DIRECTORY.markers
    | MASTER_DIRECTORY_FORMAT.markers,
)
"""What a run, a search, a stream of tasks or a save leaves behind."""


def foreign_in_directory(
    directory_format: DirectoryFormat, *, keep_foreign: bool = False
) -> ForeignCheck:
    """Return a check that names the first entry of a directory that fxgrow did not write.

    Args:
        directory_format: the kind of directory that would replace it.
        keep_foreign: ignore entries of other names, for they will be kept.
    """

    def foreign_check(path: Path) -> str | None:
        if path.is_symlink() or not path.is_dir():
            return "it is no directory"
        foreign = first_foreign(path, directory_format, keep_foreign=keep_foreign)
        if foreign is not None:
            return f"it holds {str(foreign.relative_to(path))!r}, which fxgrow did not write"
        names = {entry.name for entry in path.iterdir()}
        markers = directory_format.markers
        if names and markers and not names & markers:
            return f"it holds no {' or '.join(sorted(markers))}"
        return None

    return foreign_check


def first_foreign(
    path: Path, directory_format: DirectoryFormat, keep_foreign: bool = False
) -> Path | None:
    """Return the first entry, at any depth, that does not match the format.

    Args:
        path: a directory.
        directory_format: what its entries have to be.
        keep_foreign: ignore entries of other names.
    """
    for entry in sorted(path.iterdir()):
        expected = _expected_entry(entry.name, directory_format)
        if expected is None and keep_foreign:
            continue
        foreign = _foreign_part(entry, expected)
        if foreign is not None:
            return foreign
    return None


def _foreign_part(entry: Path, expected: Recognizer | DirectoryFormat | None) -> Path | None:
    """Return the entry if it is not what is expected, or the first foreign path inside it."""
    if isinstance(expected, DirectoryFormat):
        if entry.is_symlink() or not entry.is_dir():
            return entry
        # Inside, every entry counts: a subdirectory is replaced as one.
        return first_foreign(entry, expected)
    if expected is None or not is_recognized(entry, expected):
        return entry
    return None


def _expected_entry(
    name: str, directory_format: DirectoryFormat
) -> Recognizer | DirectoryFormat | None:
    for pattern, expected in directory_format.entries.items():
        if re.fullmatch(pattern, name):
            return expected
    return None


def is_recognized(path: Path, recognizer: Recognizer) -> bool:
    """Whether ``path`` is a regular file, not a link, that ``recognizer`` accepts.

    Args:
        path: any existing path.
        recognizer: looks at the content.
    """
    return path.is_file() and not path.is_symlink() and recognizer(path)


def foreign_file(recognizer: Recognizer) -> ForeignCheck:
    """Return a check that lets a file be replaced if it is recognized, or empty."""

    def foreign_check(path: Path) -> str | None:
        if path.is_symlink() or not path.is_file():
            return "it is no regular file"
        if path.stat().st_size == 0 or recognizer(path):
            return None
        return "its content is not of the kind that would be written"

    return foreign_check
