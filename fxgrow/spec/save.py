"""From a specification and weights to a directory."""

import stat
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import fx, nn

from fxgrow.argument_checks import checked
from fxgrow.documents import (
    CONFIG,
    WEIGHTS,
    canonical_json,
    check_replaceable,
    sha256,
    staged_directory,
)
from fxgrow.errors import SpecError
from fxgrow.sharding import require_whole
from fxgrow.spec.allowlist import Trust
from fxgrow.spec.arguments import DTYPES
from fxgrow.spec.build import fingerprint_of
from fxgrow.spec.models import (
    ArchitectureSpec,
    BufferSpec,
    GrowthStep,
    ParameterSpec,
    WeightsSpec,
    to_json,
)

META_KEY = "fxgrow.spec"
"""Where a loaded graph module keeps the spec that it was loaded from."""


def spec_of(graph_module: fx.GraphModule) -> ArchitectureSpec:
    """The spec that ``graph_module`` was loaded from; ``SpecError("no-spec")`` if it was not."""
    spec = graph_module.meta.get(META_KEY)
    if not isinstance(spec, ArchitectureSpec):
        raise SpecError(
            "no-spec", "this graph module was not loaded from a spec; describe it and pass the spec"
        )
    return spec


def history_of(model: nn.Module) -> tuple[GrowthStep, ...]:
    """The growth steps that a model has behind it; none if it was not loaded from a spec."""
    spec = model.meta.get(META_KEY) if isinstance(model, fx.GraphModule) else None
    return spec.history if isinstance(spec, ArchitectureSpec) else ()


@checked
def save(
    graph_module: fx.GraphModule,
    directory: str | Path,
    spec: ArchitectureSpec | None = None,
    *,
    trust: Trust = frozenset(),
) -> ArchitectureSpec:
    """Write a model to a directory: its specification and its weights.

    Args:
        graph_module: The model.
        directory: Where to write. If it exists, it must be empty or hold a spec.
        spec: What ``describe`` gave; without it, the spec that the module was loaded from, if its
            architecture has not changed since.
        trust: ``package.module.object`` of functions and module classes beyond the allow-list.

    Returns:
        The spec as written, with the hash of the weights file.

    Raises:
        SpecError: ``no-spec``, ``stale-spec``, and what ``write_spec`` raises.

    Example:
        >>> spec = describe(graph_module, example_inputs)  # doctest: +SKIP
        >>> save(graph_module, "grown", spec)  # doctest: +SKIP
    """
    spec = spec_of(graph_module) if spec is None else spec
    # A spec that no longer fits would be refused only when it is loaded.
    if fingerprint_of(graph_module, spec.inputs, trust) != spec.fingerprint:
        raise SpecError(
            "stale-spec", "the graph module is not what the spec says; describe it again"
        )
    return write_spec(directory, spec, state_tensors(graph_module, spec))


def state_tensors(graph_module: fx.GraphModule, spec: ArchitectureSpec) -> dict[str, torch.Tensor]:
    """Collect the tensors that a weights file has to hold.

    Args:
        graph_module: The model.
        spec: Its specification.

    Returns:
        Name -> tensor (detached, not copied) for all that are not tied to another one.

    Raises:
        SpecError: ``missing-tensor`` if the module lacks one.
        ModelError: ``wrapped-model`` if this process has shards of them.
    """
    require_whole(graph_module)
    tensors = {
        **dict(graph_module.named_parameters(remove_duplicate=False)),
        **dict(graph_module.named_buffers(remove_duplicate=False)),
    }
    state: dict[str, torch.Tensor] = {}
    for item in _untied(spec):
        if item.name not in tensors:
            raise SpecError(
                "missing-tensor", f"the graph module has no {item.name!r}; describe it again"
            )
        state[item.name] = tensors[item.name].detach()
    return state


def _untied(spec: ArchitectureSpec) -> list[ParameterSpec | BufferSpec]:
    return [item for item in spec.tensors if item.tied_to is None]


def write_spec(
    directory: str | Path, spec: ArchitectureSpec, state: Mapping[str, torch.Tensor]
) -> ArchitectureSpec:
    """Write ``config.json`` and ``model.safetensors``, all or nothing.

    Args:
        directory: Where to write. If it exists, it must be empty or hold a spec.
        spec: The specification.
        state: Every tensor of the spec that is not tied to another, and no more.

    Returns:
        The spec as written, with the hash of the weights file.

    Raises:
        SpecError: ``missing-tensor``, ``tensor-mismatch``, ``foreign-directory``, ``unsafe-path``,
            ``symlink``, ``not-a-file``, ``not-finite`` or ``unwritable``.
    """
    _check_state(spec, state)
    target = Path(directory)
    check_replaceable(target)
    with staged_directory(target) as staging:
        # One key only: the order of several is not deterministic in safetensors.
        metadata = {"fingerprint": spec.fingerprint}
        save_tensors(dense_tensor(state), staging / WEIGHTS, metadata=metadata)
        weights = WeightsSpec(sha256=sha256(staging / WEIGHTS))
        sealed = spec.model_copy(update={"weights": weights})
        (staging / CONFIG).write_bytes(canonical_json(to_json(sealed)))
    return sealed


def _check_state(spec: ArchitectureSpec, state: Mapping[str, torch.Tensor]) -> None:
    expected = {item.name: (item.shape, DTYPES[item.dtype]) for item in _untied(spec)}
    unmatched = next(iter(expected.keys() ^ state.keys()), None)
    if unmatched is not None:
        raise SpecError(
            "missing-tensor",
            f"{unmatched!r} is in only one of spec and state; pass all untied tensors, no more",
        )
    for name, (shape, dtype) in expected.items():
        tensor = state[name]
        if (tuple(tensor.shape), tensor.dtype) != (shape, dtype) or tensor.is_meta:
            raise SpecError(
                "tensor-mismatch",
                f"{name!r} is {tuple(tensor.shape)} {tensor.dtype} on {tensor.device}, not "
                f"{shape} {dtype}; pass the weights that the spec describes",
            )


def save_tensors(
    tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file with the permissions that any new file gets.

    safetensors itself would make it readable for its owner alone.

    Args:
        tensors: Contiguous tensors on the CPU that share no memory.
        path: The file.
        metadata: Texts for the file's header.
    """
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    save_file(tensors, path, metadata=metadata)
    path.chmod(mode)


def dense_tensor(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous tensors on the CPU that share no memory, as safetensors requires."""
    addresses: set[int] = set()
    dense: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        contiguous = tensor.detach().cpu().contiguous()
        address = contiguous.untyped_storage().data_ptr()
        # A storage that was met before belongs to an earlier tensor, so this one gets a copy.
        dense[name] = contiguous.clone() if address in addresses else contiguous
        addresses.add(address)
    return dense
