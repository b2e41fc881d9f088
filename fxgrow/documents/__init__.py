"""How fxgrow reads and writes files: parsing, limits, and outputs that appear whole or not at all.

- ``files``: read files of bounded size, and write the two files of a spec directory.
- ``atomic``: write any other output; it takes its place by one rename when it is complete.
- ``recognition``: tell by its content whether fxgrow wrote a file or directory.
- ``parsing``: from the text of JSON or plain YAML to data.
- ``limits``: every bound on what a file may claim.
- ``document``: versioned documents, and the migration of older versions.
- ``tensor_files``: tensors from safetensors files.
- ``trees``: nested values with tensors in them, as JSON data and tensors.
- ``locks``: who may write, until the process ends.
"""

from fxgrow.documents.atomic import (
    EXPORT_OUTPUT,
    FILE_OUTPUT,
    PAGE_OUTPUT,
    RUN_OUTPUT,
    ForeignCheck,
    atomic_directory,
    atomic_path,
    check_target,
    os_errors_as,
    recover_directory,
    resolve_target,
    sync,
)
from fxgrow.documents.canonical import canonical_json, digest
from fxgrow.documents.document import Document, JsonData, as_spec_error
from fxgrow.documents.files import (
    CONFIG,
    WEIGHTS,
    check_kind,
    check_replaceable,
    read_bytes,
    read_text,
    reading_errors,
    sha256,
    staged_directory,
)
from fxgrow.documents.limits import MESSAGE
from fxgrow.documents.locks import exclusive_lock, lock_holder
from fxgrow.documents.model import StrictModel
from fxgrow.documents.parsing import parse_json, parse_yaml, yaml_text
from fxgrow.documents.recognition import (
    CHECKPOINT_DIRECTORY,
    GRAPH_DUMP_DIRECTORY,
    HUB_DIRECTORY,
    UNFINISHED_DIRECTORY,
    begins_with,
    contains_bytes,
    first_foreign,
    foreign_file,
    foreign_in_directory,
    is_genotype,
    is_schema,
    is_source,
)
from fxgrow.documents.renaming import rename_key
from fxgrow.documents.settings import Pattern, Settings
from fxgrow.documents.tensor_files import aligned_copy, read_tensors
from fxgrow.documents.trees import Tree, decode_tree, encode_tree

__all__ = [
    "CHECKPOINT_DIRECTORY",
    "CONFIG",
    "EXPORT_OUTPUT",
    "FILE_OUTPUT",
    "GRAPH_DUMP_DIRECTORY",
    "HUB_DIRECTORY",
    "MESSAGE",
    "PAGE_OUTPUT",
    "RUN_OUTPUT",
    "UNFINISHED_DIRECTORY",
    "WEIGHTS",
    "Document",
    "ForeignCheck",
    "JsonData",
    "Pattern",
    "Settings",
    "StrictModel",
    "Tree",
    "aligned_copy",
    "as_spec_error",
    "atomic_directory",
    "atomic_path",
    "begins_with",
    "canonical_json",
    "check_kind",
    "check_replaceable",
    "check_target",
    "contains_bytes",
    "decode_tree",
    "digest",
    "encode_tree",
    "exclusive_lock",
    "first_foreign",
    "foreign_file",
    "foreign_in_directory",
    "is_genotype",
    "is_schema",
    "is_source",
    "lock_holder",
    "os_errors_as",
    "parse_json",
    "parse_yaml",
    "read_bytes",
    "read_tensors",
    "read_text",
    "reading_errors",
    "recover_directory",
    "rename_key",
    "resolve_target",
    "sha256",
    "staged_directory",
    "sync",
    "yaml_text",
]
