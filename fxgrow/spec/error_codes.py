"""The codes that a :class:`fxgrow.errors.SpecError` can carry; ``docs/spec.md`` lists the same."""

from collections.abc import Iterator
from contextlib import contextmanager

from fxgrow.errors import SpecError

CODES: dict[str, str] = {
    # the directory
    "missing-file": "The directory, config.json or model.safetensors is not there.",
    "not-a-file": (
        "A path is not of the kind it should be (a directory where a file is due, or the reverse)."
    ),
    "symlink": "The directory or one of its files is a symbolic link; links are not followed.",
    "unreadable": "The operating system refused to read a file.",
    "unwritable": "The operating system refused to write; what was there before is unchanged.",
    "foreign-directory": (
        "The directory exists, is not empty and holds no fxgrow spec, so it is not overwritten."
    ),
    "foreign-path": "The file to replace is not of the kind that would be written, so it is kept.",
    "path-exists": "The path to write to exists already and is kept.",
    "unsafe-path": (
        "The path is the current or home directory, holds one of them, or is a mount point."
    ),
    "too-large": (
        "A file, a list or a name is over its limit, or the spec claims more weights than "
        "its file holds."
    ),
    # the text
    "bad-json": (
        "A file is not UTF-8, or its JSON is malformed, repeats a key, or holds NaN or Infinity."
    ),
    "bad-yaml": (
        "A recipe is not plain YAML: it is malformed, repeats a key, or has anchors, "
        "aliases or tags."
    ),
    "too-deep": "JSON or YAML is nested deeper than the limit.",
    "schema-version": "The document was written in a schema version this fxgrow does not read.",
    "unknown-key": "A key is not part of the schema.",
    "missing-key": "A required key is absent.",
    "bad-value": "A value has the wrong type or is out of range.",
    "bad-text": "A text holds control characters, or marks that turn the direction of text.",
    "not-finite": "A number that has to be finite is not.",
    "fingerprint-mismatch": (
        "The architecture in config.json is not the one its fingerprint was made from."
    ),
    "not-canonical": (
        "The model built from the spec would be described otherwise: unused entries, "
        "other spellings."
    ),
    # the graph
    "bad-name": (
        "A name is no plain identifier, is reserved, or would shadow something the "
        "generated code needs."
    ),
    "duplicate-name": "Two nodes, modules, tensors or inputs have the same name.",
    "unknown-node": "An argument refers to a node that does not exist or comes later.",
    "unknown-target": "What a node calls or reads is not on the allow-list or not there.",
    "bad-call": "A node's arguments do not fit its operation.",
    "bad-graph": "The graph has no single output at its end, or fx cannot generate code for it.",
    "bad-input": "The example inputs do not fit the graph's placeholders.",
    "bad-argument": "A node or a constructor takes a value that a spec cannot hold.",
    "pytree-signature": (
        "The graph flattens its inputs or outputs by a pytree spec, which a spec cannot hold."
    ),
    "not-runnable": "The graph does not run on its example inputs, so its cost is unknown.",
    "not-described": "The growth step was asked for no specification.",
    # modules and tensors
    "unknown-class": "A module's class is not on the allow-list.",
    "bad-config": "A module cannot be built from, or described by, its constructor configuration.",
    "patched-module": "A module carries hooks or a replaced forward, which a spec cannot hold.",
    "missing-parent": "A module or tensor lies inside something that is not a container.",
    "missing-tensor": "A module or node needs a tensor that the spec does not list.",
    "tensor-mismatch": "A tensor's shape, dtype or kind is not what the spec or its module says.",
    "bad-tie": "A tensor is tied to one that does not exist or is itself tied.",
    # weights
    "bad-weights": "model.safetensors is truncated or not a safetensors file.",
    "weights-mismatch": "model.safetensors is not the file the spec was saved with.",
    "no-growth": "The checkpoint of a trainer says nothing of growth.",
    "not-replayable": (
        "A growth step in the history does not fit the architecture that the steps before "
        "it lead to."
    ),
    "forgotten": "A task's network is not the one that its master network had learned.",
    "no-spec": "The graph module was not loaded from a spec, so there is none to save.",
    "stale-spec": "The graph module no longer is what the spec says.",
    # the rest
    "untrusted": "A name in trust is malformed or cannot be imported.",
    "missing-package": "The spec needs a package that is not installed.",
}


@contextmanager
def error_location(path: str) -> Iterator[None]:
    """Put ``path`` before the path of any SpecError that is raised inside.

    Args:
        path: The part of the document that is being read or written, such as ``nodes[3]``.
    """
    try:
        yield
    except SpecError as error:
        message = str(error)
        if error.path:
            # The text of an error starts with its path, which is written anew below.
            message = message.removeprefix(f"{error.path}: ")
        full_path = ".".join(filter(None, (path, error.path)))
        raise SpecError(error.code, message, full_path) from error
