"""An architecture without weights: its graph module on the meta device, and its file."""

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
    """Build the graph module of a spec on the meta device: shapes without values or memory.

    Args:
        spec: A checked specification.
        trust: ``package.module.object`` of functions and module classes beyond the allow-list.

    Returns:
        The module in evaluation mode.

    Raises:
        SpecError: If it cannot be built, or differs from the spec.
    """
    tensors: dict[str, torch.Tensor] = {}
    for item in spec.tensors:
        if item.tied_to is None:
            dtype = DTYPES[item.dtype]
            tensors[item.name] = torch.empty(item.shape, dtype=dtype, device="meta")
    graph_module = rebuild_module(spec, tensors, trust)
    check_faithful(graph_module, spec, trust)
    return graph_module


def meta_example_inputs(spec: ArchitectureSpec) -> tuple[torch.Tensor, ...]:
    """The example inputs of ``spec`` on the meta device."""
    return inputs_on_meta(spec.inputs)


def check_for_architecture(directory: str | Path) -> None:
    """Check that ``write_architecture`` may write to a directory.

    Args:
        directory: The directory; it need not exist.

    Raises:
        SpecError: ``foreign-directory`` if it holds weights, and what ``write_spec`` raises.
    """
    target = Path(directory)
    check_replaceable(target)
    # lexists: a dangling link counts too.
    if os.path.lexists(target / WEIGHTS):
        raise SpecError(
            "foreign-directory",
            "it holds weights, which would be orphaned; choose another directory",
            str(target),
        )


def write_architecture(directory: str | Path, spec: ArchitectureSpec) -> ArchitectureSpec:
    """Write ``config.json`` alone, all or nothing.

    Args:
        directory: Where to write. If it exists, it must be empty or hold a spec without weights.
        spec: The specification.

    Returns:
        The spec as written: without weights.

    Raises:
        SpecError: As ``write_spec`` does.
    """
    check_for_architecture(directory)
    target = Path(directory)
    without_weights = spec.model_copy(update={"weights": None})
    with staged_directory(target) as staging:
        (staging / CONFIG).write_bytes(canonical_json(to_json(without_weights)))
    return without_weights
