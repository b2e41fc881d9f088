"""Checkpoints of a ``Grower`` that all processes write, each its own shards.

They are in the form of ``torch.distributed.checkpoint`` with files of safetensors, so another
number of processes can read them, and nothing in them is run: torch's default form has a pickle
for an index. What is no tensor is JSON, written last: without it there is no checkpoint.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, JsonValue
from safetensors import SafetensorError
from torch import Tensor

from fxgrow.argument_checks import checked
from fxgrow.documents import (
    RUN_OUTPUT,
    Document,
    StrictModel,
    os_errors_as,
    read_text,
    resolve_target,
    sync,
)
from fxgrow.errors import FxgrowError, SpecError
from fxgrow.ranks import Ranks
from fxgrow.running import CALLED_CODE_ERRORS
from fxgrow.training.grower import Grower
from fxgrow.training.grower_state import GrowerState, parse_constants

_GROWER_FILE = "grower.json"
"""What is written last."""

_STATE_BYTES = 2**28
"""The most that it may have: there are some numbers of each parameter."""


class ShardedCheckpoint(StrictModel):
    """What of a checkpoint is no tensor.

    Args:
        schema_version: version of the document.
        grower: what the ``Grower`` measured, and how its model grew.
        options: of the optimizers, parameter by parameter.
    """

    # The loss of training that diverged is no number.
    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="constants")

    schema_version: Literal[1]
    grower: GrowerState
    options: dict[str, JsonValue]


_DOCUMENT = Document("checkpoint", ShardedCheckpoint, 1, parse=parse_constants)


@checked
def save_sharded(grower: Grower, directory: str | Path) -> None:
    """Save a grower, its model and its optimizers; call it in all processes of a group.

    Args:
        grower: its model may be sharded, replicated or alone.
        directory: the same in all processes, which all see it; new or empty.

    Raises:
        RunError: ``directory-exists`` if something is in it, ``unsafe-path``, ``unwritable-run``.
        GrowthError: ``rank-failed``.

    Example:
        >>> save_sharded(grower, f"checkpoints/{epoch}")
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter  # slow to import

    target, ranks = resolve_target(directory, RUN_OUTPUT), Ranks.of_process()
    with ranks.together(), os_errors_as(target, RUN_OUTPUT):
        if ranks.is_first:
            _make_empty(target)
        ranks.decided(decision=True)  # the directory is there
        tensors, options = _state_of(grower)
        writer = HuggingFaceStorageWriter(str(target), save_distributed=True)
        with _failures_told(target), _exchanges_of_torch() as checkpoint:
            checkpoint.save(tensors, storage_writer=writer, no_dist=ranks.count == 1)
        if ranks.is_first:
            _write_state(target, {"grower": grower.state_dict(), "options": options})


def _make_empty(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RUN_OUTPUT.exists(f"{target} is there already; choose another directory")
    target.mkdir(parents=True, exist_ok=True)


def _write_state(target: Path, content: dict[str, Any]) -> None:
    # By one rename: a checkpoint is there as a whole or not at all.
    partial = target / f"{_GROWER_FILE}.partial"
    partial.write_text(json.dumps({"schema_version": 1, **content}, sort_keys=True))
    sync(partial)
    partial.replace(target / _GROWER_FILE)
    sync(target)


@checked
def read_sharded_state(directory: str | Path) -> dict[str, Any]:
    """The ``state_dict`` of a grower that was saved, by which its model can grow again.

    Args:
        directory: what ``save_sharded`` wrote.

    Returns:
        What ``regrow_from_state`` and ``Grower.load_state_dict`` take.

    Raises:
        SpecError: there is no checkpoint, or it was not written by ``save_sharded``.

    Example:
        >>> with torch.device("meta"):
        ...     model = Net()
        >>> regrow_from_state(model, read_sharded_state("checkpoints/8"), inputs)
    """
    return _read(directory).grower.model_dump(mode="json")


def _read(directory: str | Path) -> ShardedCheckpoint:
    path = Path(directory) / _GROWER_FILE
    return _DOCUMENT.read(read_text(path, _STATE_BYTES), str(path))


@checked
def load_sharded(grower: Grower, directory: str | Path) -> None:
    """Go on from a checkpoint, with as many processes as there are; call it in all of them.

    Args:
        grower: its model has grown as the checkpoint says (``regrow_from_state``), and has memory
            (``to_empty``). Weights, the optimizers' state and what it measured are replaced.
        directory: what ``save_sharded`` wrote.

    Raises:
        SpecError: there is no checkpoint; ``tensor-mismatch``: it is not of this model and these
            optimizers.
        GrowthError: ``rank-failed``.

    Example:
        >>> load_sharded(grower, "checkpoints/8")
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict import set_state_dict

    ranks, path = Ranks.of_process(), Path(directory)
    with ranks.together():
        saved = _read(path)
        tensors, options = _state_of(grower)
        reader = HuggingFaceStorageReader(str(path))
        with _misfits_told(path), _exchanges_of_torch() as checkpoint:
            _require_same_names(reader.read_metadata().state_dict_metadata, tensors)
            _require_same_names(saved.options, options)
            checkpoint.load(tensors, storage_reader=reader, no_dist=ranks.count == 1)
            of_optimizers: dict[str, Any] = {}
            for name, value in options.items():
                of_optimizers[name] = _like(value, saved.options[name])
            of_model = _part(tensors, _MODEL)
            of_optimizers |= _part(tensors, _OPTIMIZERS)
            set_state_dict(
                grower._bare,
                grower.optimizers,
                model_state_dict=of_model,
                optim_state_dict=of_optimizers,
                options=_options(),
            )
        grower.load_state_dict(saved.grower.model_dump(mode="json"))


_MODEL, _OPTIMIZERS = "model.", "optimizers."
"""What the names of tensors begin with."""


def _options() -> Any:
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    # By names of parameters, for their numbers may be others in another process.
    return StateDictOptions(flatten_optimizer_state_dict=True, strict=True)


def _state_of(grower: Grower) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors of a model and its optimizers, and the options of these."""
    from torch.distributed.checkpoint.state_dict import get_state_dict

    found: tuple[Any, Any] = get_state_dict(grower._bare, grower.optimizers, options=_options())
    of_model, of_optimizers = found
    tensors: dict[str, Tensor] = {}
    options: dict[str, Any] = {}
    for name, tensor in of_model.items():
        tensors[_MODEL + name] = tensor
    for name, value in of_optimizers.items():
        if isinstance(value, Tensor):
            tensors[_OPTIMIZERS + name] = value
        else:
            options[name] = value
    return tensors, options


def _require_same_names(saved: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    """Check that there is something for everything, and nothing besides."""
    for name in sorted(present.keys() - saved.keys()):
        raise LookupError(f"it has nothing of {name}")
    for name in sorted(saved.keys() - present.keys()):
        raise LookupError(f"it has {name}, which is not there")


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Any]:
    found = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            found[name.removeprefix(prefix)] = tensor
    return found


def _like(present: Any, saved: Any) -> Any:
    """An option as it was: JSON has no tuples."""
    return tuple(saved) if isinstance(present, tuple) and isinstance(saved, list) else saved


@contextmanager
def _exchanges_of_torch() -> Iterator[Any]:
    """Give ``torch.distributed.checkpoint``, whose warnings of one process say nothing new."""
    import torch.distributed.checkpoint as checkpoint

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torch.distributed.checkpoint")
        yield checkpoint


@contextmanager
def _misfits_told(path: Path) -> Iterator[None]:
    """Say in one sentence what does not fit."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except FxgrowError:
        raise
    except CheckpointException as error:
        raise _misfit(_reason(error), path) from error
    except (SafetensorError, *CALLED_CODE_ERRORS) as error:
        raise _misfit(str(error), path) from error


@contextmanager
def _failures_told(target: Path) -> Iterator[None]:
    """Say in one sentence why nothing could be written, in this process or in another one."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except CheckpointException as error:
        raise RUN_OUTPUT.unwritable(
            f"{target} cannot be written ({_reason(error)}); choose a place that can"
        ) from error


def _reason(error: Any) -> str:
    """Why it failed in the first process, by name, that failed."""
    return min(str(cause[0]) for cause in error.failures.values())


def _misfit(reason: str, path: Path) -> SpecError:
    told = " ".join(reason.split())[:300].removesuffix(".")
    return SpecError(
        "tensor-mismatch",
        f"the checkpoint is not of this model and these optimizers ({told}); let a model of the "
        "start grow again by regrow_from_state, and load then",
        str(path),
    )
