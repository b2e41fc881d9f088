"""From a directory to a specification and to a graph module. Nothing in the directory is executed or unpickled."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import fx

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


def read_spec(directory: str | Path, *, trust: Trust = _NO_TRUST) -> ArchitectureSpec:
    """The checked specification in ``directory``, without its weights. Anything wrong: SpecError with code and path."""
    check_kind(Path(directory), directory=True)
    spec = parse_spec(read_text(Path(directory) / CONFIG))
    check_spec(spec, trust)
    return spec


def load(directory: str | Path, *, trust: Trust = _NO_TRUST) -> fx.GraphModule:
    """The saved model, in eval mode on the CPU, bit for bit as it was saved. Anything wrong: SpecError.

    ``trust`` lists functions and module classes (``package.module.object``) that the spec may name beyond the
    allow-list; they are imported. ``spec_of`` gives the spec of the result.
    """
    spec = read_spec(directory, trust=trust)
    weights = _Weights(Path(directory) / WEIGHTS, spec)
    graph_module = rebuild_module(spec, weights.read(), trust)
    check_faithful(graph_module, spec, trust)
    graph_module.meta[META_KEY] = spec
    return graph_module


def parse_spec(text: str) -> ArchitectureSpec:
    """The specification in a JSON text: right in every single field, but not yet checked across them."""
    return ARCHITECTURE.read(text, CONFIG)


# How safetensors writes dtypes.
_SAFE_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U64": torch.uint64, "U32": torch.uint32,
    "U16": torch.uint16, "U8": torch.uint8, "BOOL": torch.bool, "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E4M3FNUZ": torch.float8_e4m3fnuz, "F8_E5M2": torch.float8_e5m2,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}  # fmt: skip


class _Weights:
    """The weights file of one spec."""

    def __init__(self, path: Path, spec: ArchitectureSpec) -> None:
        self.path = path
        self.spec = spec

    def read(self) -> dict[str, torch.Tensor]:
        """Name -> tensor for the untied tensors. Sizes are compared before anything is allocated."""
        size = check_kind(self.path, directory=False).st_size
        if stored_bytes(self.spec) > size:
            raise self._error(
                "too-large",
                f"the spec claims {stored_bytes(self.spec)} bytes of weights, it has {size}",
            )
        # The header first: a truncated file should be called that.
        tensors = self._tensors()
        if self.spec.weights is None or sha256(self.path) != self.spec.weights.sha256:
            raise self._error("weights-mismatch", "its SHA-256 is not the one in config.json")
        return tensors

    def _tensors(self) -> dict[str, torch.Tensor]:
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
        if (file.metadata() or {}).get("fingerprint") != self.spec.fingerprint:
            raise self._error("weights-mismatch", "it belongs to another architecture")
        wanted = {item.name: item for item in self.spec.tensors if item.tied_to is None}
        odd = next(iter(sorted(wanted.keys() ^ set(file.keys()))), None)
        if odd is not None:
            raise self._error("missing-tensor", f"{odd!r} is in only one of it and config.json")
        for name, item in wanted.items():
            piece = file.get_slice(name)
            if (tuple(piece.get_shape()), _SAFE_DTYPES.get(piece.get_dtype())) != (
                item.shape,
                DTYPES[item.dtype],
            ):
                raise self._error(
                    "tensor-mismatch", f"{name!r} has another shape or dtype than in config.json"
                )

    def _error(self, code: str, message: str) -> SpecError:
        return SpecError(code, f"{message}; save the model again", str(self.path))
