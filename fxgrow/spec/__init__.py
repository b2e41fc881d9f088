"""Typed, safe, diffable specifications of architectures: describe, save, load, compare.

See ``docs/spec.md``.
"""

from fxgrow.deprecation import renamed_attributes
from fxgrow.documents import (
    Document,
    StrictModel,
    as_spec_error,
    canonical_json,
    digest,
    parse_yaml,
    read_text,
    yaml_text,
)
from fxgrow.spec.allowlist import CONTAINER, Trust, class_named, is_word
from fxgrow.spec.allowlist_tables import IN_PLACE_OPERATORS
from fxgrow.spec.arguments import (
    DTYPES,
    Argument,
    DeviceArg,
    DTypeArg,
    EllipsisArg,
    LayoutArg,
    ListArg,
    MappingArg,
    MemoryFormatArg,
    NodeArg,
    NumberArg,
    SliceArg,
    TupleArg,
    argument_text,
    references,
)
from fxgrow.spec.build import check_faithful, describe, fingerprint_of, width_spec
from fxgrow.spec.check import check_spec, parent_of, stored_bytes
from fxgrow.spec.cost import (
    PassCost,
    Term,
    activation_terms,
    cost,
    multiply_add_terms,
    multiply_adds,
    parameter_terms,
    pass_cost,
)
from fxgrow.spec.diff.align import Alignment, align
from fxgrow.spec.diff.compare import diff
from fxgrow.spec.diff.graph_view import GraphView, node_operands
from fxgrow.spec.diff.growth_history import steps_between
from fxgrow.spec.diff.records import LayerDiff, RenameDiff, SpecDiff, WidthDiff
from fxgrow.spec.load import load, read_spec
from fxgrow.spec.meta_module import (
    check_for_architecture,
    meta_example_inputs,
    meta_module,
    write_architecture,
)
from fxgrow.spec.models import (
    ArchitectureSpec,
    BlockInsertion,
    BlockRegion,
    BufferSpec,
    Cost,
    GrowthStep,
    LayerInsertion,
    MethodRecord,
    ModuleSpec,
    NodeSpec,
    ParameterSpec,
    WidthChange,
    WidthSpec,
    to_json,
)
from fxgrow.spec.rebuild import rebuild_module
from fxgrow.spec.save import (
    META_KEY,
    dense_tensor,
    history_of,
    save,
    save_tensors,
    spec_of,
    state_tensors,
    write_spec,
)

__all__ = [
    "CONTAINER",
    "DTYPES",
    "IN_PLACE_OPERATORS",
    "META_KEY",
    "Alignment",
    "ArchitectureSpec",
    "Argument",
    "BlockInsertion",
    "BlockRegion",
    "BufferSpec",
    "Cost",
    "DTypeArg",
    "DeviceArg",
    "Document",
    "EllipsisArg",
    "GraphView",
    "GrowthStep",
    "LayerDiff",
    "LayerInsertion",
    "LayoutArg",
    "ListArg",
    "MappingArg",
    "MemoryFormatArg",
    "MethodRecord",
    "ModuleSpec",
    "NodeArg",
    "NodeSpec",
    "NumberArg",
    "ParameterSpec",
    "PassCost",
    "RenameDiff",
    "SliceArg",
    "SpecDiff",
    "StrictModel",
    "Term",
    "Trust",
    "TupleArg",
    "WidthChange",
    "WidthDiff",
    "WidthSpec",
    "activation_terms",
    "align",
    "argument_text",
    "as_spec_error",
    "canonical_json",
    "check_faithful",
    "check_for_architecture",
    "check_spec",
    "class_named",
    "cost",
    "dense_tensor",
    "describe",
    "diff",
    "digest",
    "fingerprint_of",
    "history_of",
    "is_word",
    "load",
    "meta_example_inputs",
    "meta_module",
    "multiply_add_terms",
    "multiply_adds",
    "node_operands",
    "parameter_terms",
    "parent_of",
    "parse_yaml",
    "pass_cost",
    "read_spec",
    "read_text",
    "rebuild_module",
    "references",
    "save",
    "save_tensors",
    "spec_of",
    "state_tensors",
    "steps_between",
    "stored_bytes",
    "to_json",
    "width_spec",
    "write_architecture",
    "write_spec",
    "yaml_text",
]

# Old names, which go with the next version.
__getattr__ = renamed_attributes(
    __name__,
    {
        "Frozen": "StrictModel",
        "write": "write_spec",
    },
)
