"""From a directory to a specification and to a graph module.

Nothing in the directory is executed or unpickled.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import fx

from fxgrow.argument_checks import checked
from fxgrow.documents import (
    CONFIG,
    WEIGHTS,
    aligned_copy,
    check_kind,
    read_text,
    reading_errors,
    sha256,
)
from fxgrow.errors import SpecError
from fxgrow.spec.allowlist import Trust
from fxgrow.spec.arguments import DTYPES
from fxgrow.spec.build import check_faithful
from fxgrow.spec.check import check_spec, stored_bytes
from fxgrow.spec.migrations import ARCHITECTURE
from fxgrow.spec.models import ArchitectureSpec
from fxgrow.spec.rebuild import rebuild_module
from fxgrow.spec.save import META_KEY

_NO_TRUST: Trust = frozenset()


@checked
def read_spec(directory: str | Path, *, trust: Trust = _NO_TRUST) -> ArchitectureSpec:
    """Read and check the specification in a directory, without its weights.

    Args:
        directory: What ``save`` or ``write_architecture`` wrote.
        trust: ``package.module.object`` of functions and module classes beyond the allow-list.

    Returns:
        The checked specification.

    Raises:
        SpecError: If anything is wrong with it, with code and path.
    """
    check_kind(Path(directory), directory=True)
    spec = parse_spec(read_text(Path(directory) / CONFIG))
    check_spec(spec, trust)
    return spec


@checked
def load(directory: str | Path, *, trust: Trust = _NO_TRUST) -> fx.GraphModule:
    """Load a saved model, in evaluation mode on the CPU, bit for bit as it was saved.

    Args:
        directory: What ``save`` wrote.
        trust: ``package.module.object`` of functions and module classes that the spec may name
            beyond the allow-list; they are imported.

    Returns:
        The model; ``spec_of`` gives the spec that it was loaded from.

    Raises:
        SpecError: If anything is wrong with the directory, the spec or the weights.

    Example:
        >>> model = load("grown")  # doctest: +SKIP
        >>> spec_of(model).cost.parameters  # doctest: +SKIP
    """
    spec = read_spec(directory, trust=trust)
    weights = _WeightsFile(Path(directory) / WEIGHTS, spec)
    graph_module = rebuild_module(spec, weights.read(), trust)
    check_faithful(graph_module, spec, trust)
    graph_module.meta[META_KEY] = spec
    return graph_module


def parse_spec(text: str) -> ArchitectureSpec:
    """The specification in a JSON text: valid field by field, but not yet checked across them."""
    return ARCHITECTURE.read(text, CONFIG)


# safetensors' names of dtypes.
_SAFETENSORS_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8,
    "BOOL": torch.bool, "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2": torch.float8_e5m2, "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}  # fmt: skip


class _WeightsFile:
    """The weights file of one spec."""

    def __init__(self, path: Path, spec: ArchitectureSpec) -> None:
        self.path = path
        self.spec = spec

    def read(self) -> dict[str, torch.Tensor]:
        """Name -> tensor for the untied tensors.

        Sizes are compared before anything is allocated, so that a spec cannot claim more memory
        than its file takes on disk.
        """
        num_bytes = check_kind(self.path, directory=False).st_size
        claimed = stored_bytes(self.spec)
        if claimed > num_bytes:
            raise self._error(
                "too-large", f"the spec claims {claimed} bytes of weights, it has {num_bytes}"
            )
        # The header comes before the hash: a truncated file is reported as that.
        tensors = self._read_tensors()
        if self.spec.weights is None or sha256(self.path) != self.spec.weights.sha256:
            raise self._error("weights-mismatch", "its SHA-256 is not the one in config.json")
        return tensors

    def _read_tensors(self) -> dict[str, torch.Tensor]:
        try:
            with (
                reading_errors(self.path),
                safe_open(self.path, framework="pt", device="cpu") as file,
            ):
                self._check_header(file)
                return aligned_copy(file)
        except SafetensorError as error:
            raise self._error(
                "bad-weights", f"it is truncated or no safetensors file ({error})"
            ) from error

    def _check_header(self, file: Any) -> None:
        """Check names, shapes and dtypes of an open file against the spec."""
        metadata = file.metadata() or {}
        if metadata.get("fingerprint") != self.spec.fingerprint:
            raise self._error("weights-mismatch", "it belongs to another architecture")
        expected = {item.name: item for item in self.spec.tensors if item.tied_to is None}
        unmatched = sorted(expected.keys() ^ set(file.keys()))
        if unmatched:
            raise self._error(
                "missing-tensor", f"{unmatched[0]!r} is in only one of it and config.json"
            )
        for name, item in expected.items():
            piece = file.get_slice(name)
            shape = tuple(piece.get_shape())
            dtype = _SAFETENSORS_DTYPES.get(piece.get_dtype())
            if (shape, dtype) != (item.shape, DTYPES[item.dtype]):
                raise self._error(
                    "tensor-mismatch", f"{name!r} has another shape or dtype than in config.json"
                )

    def _error(self, code: str, message: str) -> SpecError:
        return SpecError(code, f"{message}; save the model again", str(self.path))
