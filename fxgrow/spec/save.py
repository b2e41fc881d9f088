"""From a specification and weights to a directory."""

import stat
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import fx

from fxgrow.documents import (
    CONFIG,
    WEIGHTS,
    canonical_json,
    check_replaceable,
    sha256,
    staged_directory,
)
from fxgrow.errors import SpecError
from fxgrow.spec.arguments import DTYPES
from fxgrow.spec.build import fingerprint_of
from fxgrow.spec.models import ArchitectureSpec, WeightsSpec, to_json

# Where a loaded graph module keeps the spec it came from.
META_KEY = "fxgrow.spec"


def spec_of(graph_module: fx.GraphModule) -> ArchitectureSpec:
    """The spec that ``graph_module`` was loaded from; ``SpecError("no-spec")`` if it was not."""
    spec = graph_module.meta.get(META_KEY)
    if not isinstance(spec, ArchitectureSpec):
        raise SpecError(
            "no-spec", "this graph module was not loaded from a spec; describe it and pass the spec"
        )
    return spec


def save(
    graph_module: fx.GraphModule,
    directory: str | Path,
    spec: ArchitectureSpec | None = None,
    *,
    trust: frozenset[str] = frozenset(),
) -> ArchitectureSpec:
    """Writes ``graph_module`` to ``directory`` and returns the spec with the digest of its weights.

    ``spec`` is that of ``describe``; without it, the one that the module was loaded from, if its architecture still is
    the same. Raises SpecError: no-spec, stale-spec, or those of ``write``.
    """
    spec = spec_of(graph_module) if spec is None else spec
    if fingerprint_of(graph_module, spec.inputs, trust) != spec.fingerprint:
        raise SpecError(
            "stale-spec", "the graph module is not what the spec says; describe it again"
        )
    return write_spec(directory, spec, state_tensors(graph_module, spec))


def state_tensors(graph_module: fx.GraphModule, spec: ArchitectureSpec) -> dict[str, torch.Tensor]:
    """Name -> tensor for all tensors of ``spec`` that are not tied to another one."""
    tensors = {
        **dict(graph_module.named_parameters(remove_duplicate=False)),
        **dict(graph_module.named_buffers(remove_duplicate=False)),
    }
    wanted = [item.name for item in spec.tensors if item.tied_to is None]
    missing = next((name for name in wanted if name not in tensors), None)
    if missing is not None:
        raise SpecError("missing-tensor", f"the graph module has no {missing!r}; describe it again")
    return {name: tensors[name].detach() for name in wanted}


def write_spec(
    directory: str | Path, spec: ArchitectureSpec, state: Mapping[str, torch.Tensor]
) -> ArchitectureSpec:
    """Writes ``config.json`` and ``model.safetensors``, all or nothing, and returns the spec as written.

    ``state`` holds every tensor of the spec that is not tied to another, and no more. A directory that exists must be
    empty or hold a spec. Raises SpecError: missing-tensor, tensor-mismatch, foreign-directory, unsafe-path, symlink,
    not-a-file, not-finite, unwritable.
    """
    _check_state(spec, state)
    target = Path(directory)
    check_replaceable(target)
    with staged_directory(target) as staging:
        # One key only: the order of several is not deterministic in safetensors.
        save_tensors(
            dense_tensor(state), staging / WEIGHTS, metadata={"fingerprint": spec.fingerprint}
        )
        sealed = spec.model_copy(update={"weights": WeightsSpec(sha256=sha256(staging / WEIGHTS))})
        (staging / CONFIG).write_bytes(canonical_json(to_json(sealed)))
    return sealed


def _check_state(spec: ArchitectureSpec, state: Mapping[str, torch.Tensor]) -> None:
    wanted = {
        item.name: (item.shape, DTYPES[item.dtype]) for item in spec.tensors if item.tied_to is None
    }
    odd = next(iter(wanted.keys() ^ state.keys()), None)
    if odd is not None:
        raise SpecError(
            "missing-tensor",
            f"{odd!r} is in only one of spec and state; pass all untied tensors, no more",
        )
    for name, (shape, dtype) in wanted.items():
        tensor = state[name]
        if (tuple(tensor.shape), tensor.dtype) != (shape, dtype) or tensor.is_meta:
            raise SpecError(
                "tensor-mismatch",
                f"{name!r} is {tuple(tensor.shape)} {tensor.dtype} on {tensor.device}, not {shape} {dtype}; pass the "
                "weights that the spec describes",
            )


def save_tensors(
    tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file with the permissions that any new file gets; safetensors would keep it from others."""
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    save_file(tensors, path, metadata=metadata)
    path.chmod(mode)


def dense_tensor(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous tensors on the CPU that share no memory, as safetensors wants them."""
    seen: set[int] = set()
    dense: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        flat = tensor.detach().cpu().contiguous()
        memory = flat.untyped_storage().data_ptr()
        dense[name] = flat.clone() if memory in seen else flat
        seen.add(memory)
    return dense
