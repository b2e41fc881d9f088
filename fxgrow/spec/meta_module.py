"""An architecture without weights: the graph module of a spec with its tensors on the meta device, and its file."""

import os
from pathlib import Path

import torch
from torch import fx

from fxgrow.documents import CONFIG, WEIGHTS, canonical_json, check_replaceable, staged_directory
from fxgrow.errors import SpecError
from fxgrow.spec.allowlist import Trust
from fxgrow.spec.arguments import DTYPES
from fxgrow.spec.build import check_faithful, inputs_on_meta
from fxgrow.spec.models import ArchitectureSpec, to_json
from fxgrow.spec.rebuild import rebuild_module

_NO_TRUST: Trust = frozenset()


def meta_module(spec: ArchitectureSpec, *, trust: Trust = _NO_TRUST) -> fx.GraphModule:
    """The graph module of a checked ``spec`` on the meta device, in eval mode: shapes without values or memory.

    Raises SpecError if it cannot be built, or is not what the spec says.
    """
    untied = (item for item in spec.tensors if item.tied_to is None)
    tensors = {
        item.name: torch.empty(item.shape, dtype=DTYPES[item.dtype], device="meta")
        for item in untied
    }
    graph_module = rebuild_module(spec, tensors, trust)
    check_faithful(graph_module, spec, trust)
    return graph_module


def meta_example_inputs(spec: ArchitectureSpec) -> tuple[torch.Tensor, ...]:
    """The example inputs of ``spec`` on the meta device."""
    return inputs_on_meta(spec.inputs)


def check_for_architecture(directory: str | Path) -> None:
    """Raises SpecError unless ``write_architecture`` may write to ``directory``."""
    target = Path(directory)
    check_replaceable(target)
    if os.path.lexists(target / WEIGHTS):
        raise SpecError(
            "foreign-directory",
            "it holds weights, which would be orphaned; choose another directory",
            str(target),
        )


def write_architecture(directory: str | Path, spec: ArchitectureSpec) -> ArchitectureSpec:
    """Writes ``config.json`` alone, all or nothing, and returns the spec as written: without weights.

    A directory that exists must be empty or hold a spec without weights. Raises SpecError as ``write`` does.
    """
    check_for_architecture(directory)
    target = Path(directory)
    bare = spec.model_copy(update={"weights": None})
    with staged_directory(target) as staging:
        (staging / CONFIG).write_bytes(canonical_json(to_json(bare)))
    return bare
