"""From a directory to a specification and to a graph module. Nothing in the directory is executed or unpickled."""

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import fx

from fxgrow.errors import SpecError
from fxgrow.spec import limits
from fxgrow.spec.allowlist import Trust
from fxgrow.spec.arguments import DTYPES
from fxgrow.spec.build import check_faithful
from fxgrow.spec.check import check, stored_bytes
from fxgrow.spec.files import CONFIG, WEIGHTS, check_kind, read_text, reading, sha256
from fxgrow.spec.models import SCHEMA_VERSION, ArchitectureSpec
from fxgrow.spec.rebuild import rebuild
from fxgrow.spec.save import META_KEY

_NO_TRUST: Trust = frozenset()


def read_spec(directory: str | Path, *, trust: Trust = _NO_TRUST) -> ArchitectureSpec:
    """The checked specification in ``directory``, without its weights. Anything wrong: SpecError with code and path."""
    check_kind(Path(directory), directory=True)
    spec = parse_spec(read_text(Path(directory) / CONFIG))
    check(spec, trust)
    return spec


def load(directory: str | Path, *, trust: Trust = _NO_TRUST) -> fx.GraphModule:
    """The saved model, in eval mode on the CPU, bit for bit as it was saved. Anything wrong: SpecError.

    ``trust`` lists functions and module classes (``package.module.object``) that the spec may name beyond the
    allow-list; they are imported. ``spec_of`` gives the spec of the result.
    """
    spec = read_spec(directory, trust=trust)
    weights = _Weights(Path(directory) / WEIGHTS, spec)
    graph_module = rebuild(spec, weights.read(), trust)
    check_faithful(graph_module, spec, trust)
    graph_module.meta[META_KEY] = spec
    return graph_module


def parse_spec(text: str) -> ArchitectureSpec:
    """The specification in a JSON text: right in every single field, but not yet checked across them."""
    data = _parse_json(text)
    version = data.get("schema_version", SCHEMA_VERSION) if isinstance(data, dict) else SCHEMA_VERSION
    if type(version) is not int or version != SCHEMA_VERSION:
        raise SpecError(
            "schema-version", f"the spec has version {version!r}, this fxgrow reads {SCHEMA_VERSION}", "schema_version"
        )
    try:
        return ArchitectureSpec.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        code = _VALIDATION_CODES.get(first["type"], "bad-value")
        raise SpecError(code, f"{first['msg']}; correct it or save the model again", path or CONFIG) from error


# How safetensors writes dtypes.
_SAFE_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U64": torch.uint64, "U32": torch.uint32,
    "U16": torch.uint16, "U8": torch.uint8, "BOOL": torch.bool, "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E4M3FNUZ": torch.float8_e4m3fnuz, "F8_E5M2": torch.float8_e5m2,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}  # fmt: skip

_VALIDATION_CODES = {
    "extra_forbidden": "unknown-key",
    "missing": "missing-key",
    "finite_number": "not-finite",
    "string_too_long": "too-large",
    "too_long": "too-large",
}


def _parse_json(text: str) -> Any:
    if sum(map(text.count, ",[{")) > limits.VALUES:
        raise SpecError("too-large", f"it holds more than {limits.VALUES} values; save the model again", CONFIG)
    try:
        data = json.loads(text, object_pairs_hook=_no_repeats, parse_constant=_no_constant)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise SpecError("bad-json", f"it is not JSON ({error}); save the model again", CONFIG) from error
    _check_values(data)
    return data


def _check_values(data: Any) -> None:
    """Nesting is within the limit, texts are readable, numbers finite."""
    level = [data]
    for _ in range(limits.DEPTH):
        # In one piece: a search per text would take longer than everything else.
        texts = "".join([value for value in level if isinstance(value, str)])
        if _is_odd(texts) or any(_is_odd(value) for value in level if isinstance(value, float)):
            _refuse_odd(data)
        level = [item for value in level if isinstance(value, dict | list) for item in _children(value)]
        if not level:
            return
    raise _too_deep()


def _children(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return (*value, *value.values()) if isinstance(value, dict) else value


def _is_odd(value: Any) -> bool:
    if isinstance(value, str):
        return _HIDDEN.search(value) is not None
    return isinstance(value, float) and not math.isfinite(value)


def _refuse_odd(data: Any) -> None:
    """Raises for the first odd value, with its place. A second walk, because keeping places is slow."""
    level: list[tuple[str, Any]] = [("", data)]
    for path, value in level:
        if _is_odd(value) and isinstance(value, str):
            shown = repr(value[: limits.MESSAGE])
            raise SpecError("bad-text", f"{shown} holds characters that deceive readers; remove them", path or CONFIG)
        if _is_odd(value):
            raise SpecError("not-finite", "the number is larger than a float can be; correct it", path or CONFIG)
        if isinstance(value, dict):
            level += [(path, key) for key in value]
            level += [(f"{path}.{key}".lstrip("."), item) for key, item in value.items()]
        elif isinstance(value, list):
            level += [(f"{path}[{index}]", item) for index, item in enumerate(value)]


# Control characters except tab and line feed, marks that turn the direction of text, and halves of surrogate pairs.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def _too_deep() -> SpecError:
    return SpecError("too-deep", f"it is nested deeper than {limits.DEPTH} levels; save the model again", CONFIG)


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is repeated")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


class _Weights:
    """The weights file of one spec."""

    def __init__(self, path: Path, spec: ArchitectureSpec) -> None:
        self.path = path
        self.spec = spec

    def read(self) -> dict[str, torch.Tensor]:
        """Name -> tensor for the untied tensors. Sizes are compared before anything is allocated."""
        size = check_kind(self.path, directory=False).st_size
        if stored_bytes(self.spec) > size:
            raise self._error("too-large", f"the spec claims {stored_bytes(self.spec)} bytes of weights, it has {size}")
        # The header first: a truncated file should be called that.
        tensors = self._tensors()
        if self.spec.weights is None or sha256(self.path) != self.spec.weights.sha256:
            raise self._error("weights-mismatch", "its SHA-256 is not the one in config.json")
        return tensors

    def _tensors(self) -> dict[str, torch.Tensor]:
        try:
            with reading(self.path), safe_open(self.path, framework="pt", device="cpu") as file:
                self._check_header(file)
                # A copy, because the file may change under a mapping, and kernels depend on alignment.
                return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise self._error("bad-weights", f"it is truncated or no safetensors file ({error})") from error

    def _check_header(self, file: Any) -> None:
        if (file.metadata() or {}).get("fingerprint") != self.spec.fingerprint:
            raise self._error("weights-mismatch", "it belongs to another architecture")
        wanted = {item.name: item for item in self.spec.tensors if item.tied_to is None}
        odd = next(iter(sorted(wanted.keys() ^ set(file.keys()))), None)
        if odd is not None:
            raise self._error("missing-tensor", f"{odd!r} is in only one of it and config.json")
        for name, item in wanted.items():
            piece = file.get_slice(name)
            if (tuple(piece.get_shape()), _SAFE_DTYPES.get(piece.get_dtype())) != (item.shape, DTYPES[item.dtype]):
                raise self._error("tensor-mismatch", f"{name!r} has another shape or dtype than in config.json")

    def _error(self, code: str, message: str) -> SpecError:
        return SpecError(code, f"{message}; save the model again", str(self.path))
