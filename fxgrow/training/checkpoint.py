"""A checkpoint: a run between two of its steps, as files that nothing is executed from.

::

    config.json         the architecture with its history of growth, as in every spec directory
    state.safetensors   weights, optimizer state, states of random generators
    state.json          all numbers: what was measured, what grew, what comes next
    manifest.json       the SHA-256 of the other three; written last, so a torn checkpoint lacks it

Whoever reads one checks every hash, every field and every name before it uses anything.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from safetensors import SafetensorError
from torch import Tensor

from fxgrow.documents import (
    CONFIG,
    Document,
    StrictModel,
    Tree,
    canonical_json,
    check_kind,
    decode_tree,
    limits,
    read_tensors,
    read_text,
    reading_errors,
    sha256,
    sync,
)
from fxgrow.errors import SpecError
from fxgrow.spec import ArchitectureSpec, dense_tensor, read_spec, save_tensors, to_json
from fxgrow.training.history import TrainingHistory
from fxgrow.training.network import Evaluations
from fxgrow.training.step_result import StepRecord

CHECKPOINT_VERSION: Literal[1] = 1
STATE, TENSORS, MANIFEST = "state.json", "state.safetensors", "manifest.json"
_MAX_STATE_BYTES = 2**30
"""Bytes of state.json, which holds the graphs of all growth steps as text."""
_MAX_STATE_VALUES = 2**24
"""Values in it, which take far more memory than their text."""


# Shown in a warning, so without what steers a terminal.
_Text = Annotated[str, Field(max_length=limits.NAME, pattern="^[ -~]*$")]


class CheckpointState(StrictModel):
    """The numbers of a run between two of its steps.

    Args:
        schema_version: version of the document.
        request: digest of the settings, the method, the budget, the data and the first
            architecture: only the very same run may go on from here.
        seconds: time of training of every epoch so far.
        undecided: whether the trigger is to be asked before the next epoch.
        history: what was measured, and where the growth steps lie.
        before: the evaluation before the first growth step, if there was one.
        records: the growth steps so far.
        frozen: names of parameters that do not learn.
        values: optimizer and random generators, as ``encode_tree`` writes them.
        versions: of the packages that computed it.
    """

    # A validation loss, or the loss of training that diverged, may be no number.
    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="constants")

    schema_version: Literal[1]
    request: str
    seconds: tuple[float, ...]
    undecided: bool
    history: TrainingHistory
    before: Evaluations | None
    records: tuple[StepRecord, ...]
    frozen: tuple[str, ...]
    values: Tree
    versions: dict[_Text, _Text] = Field(max_length=8)


class _Manifest(StrictModel):
    """The SHA-256 of every other file of a checkpoint, by name."""

    schema_version: Literal[1]
    files: dict[str, str] = Field(max_length=8)


def _parse_state(text: str) -> Any:
    """JSON with NaN and infinities. Its hash was compared, so it is what a run has written."""
    if text.count(",") + text.count("[") + text.count("{") > _MAX_STATE_VALUES:
        raise SpecError("too-large", f"it holds more than {_MAX_STATE_VALUES} values")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError("bad-json", f"it is not JSON ({error}); resume from another one") from error


_STATE_DOCUMENT = Document("checkpoint", CheckpointState, CHECKPOINT_VERSION, parse=_parse_state)
_MANIFEST_DOCUMENT = Document("manifest", _Manifest, CHECKPOINT_VERSION)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A run between two of its steps.

    Args:
        state: its numbers.
        spec: the architecture, with its history.
        tensors: the tensors of the model (``model.NAME``), and those that ``state.values`` names.
    """

    state: CheckpointState
    spec: ArchitectureSpec
    tensors: Mapping[str, Tensor]

    @property
    def weights(self) -> dict[str, Tensor]:
        """The parameters and buffers of the model by name."""
        prefix = "model."
        found = {}
        for name, tensor in self.tensors.items():
            if name.startswith(prefix):
                found[name.removeprefix(prefix)] = tensor
        return found

    @property
    def values(self) -> Any:
        """The state of the optimizer and of the random generators."""
        return decode_tree(self.state.values, self.tensors)


def write_checkpoint(directory: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint to an empty directory, and wait until it is on the disk.

    Args:
        directory: an existing directory.
        checkpoint: what to write.

    Raises:
        OSError: the operating system refuses, because the disk is full, say.
    """
    metadata = {"fingerprint": checkpoint.spec.fingerprint}
    try:
        save_tensors(dense_tensor(checkpoint.tensors), directory / TENSORS, metadata=metadata)
    except SafetensorError as error:  # which is no OSError, even if the disk is full
        raise OSError(str(error)) from error
    (directory / CONFIG).write_bytes(canonical_json(to_json(checkpoint.spec)))
    (directory / STATE).write_text(checkpoint.state.model_dump_json() + "\n", encoding="utf-8")
    hashes = {name: sha256(directory / name) for name in (CONFIG, TENSORS, STATE)}
    manifest = _Manifest(schema_version=CHECKPOINT_VERSION, files=hashes)
    (directory / MANIFEST).write_text(manifest.model_dump_json() + "\n", encoding="utf-8")
    for name in (CONFIG, TENSORS, STATE, MANIFEST):
        sync(directory / name)
    sync(directory)


def read_checkpoint(directory: Path) -> Checkpoint:
    """Read a checkpoint, and check all of it.

    Args:
        directory: what ``write_checkpoint`` wrote.

    Returns:
        The checkpoint.

    Raises:
        SpecError: anything is wrong with it: it is torn, damaged, or of another version.
    """
    check_kind(directory, directory=True)
    manifest = _MANIFEST_DOCUMENT.read(read_text(directory / MANIFEST), MANIFEST)
    if manifest.files.keys() != {CONFIG, TENSORS, STATE}:
        raise SpecError("missing-file", f"{MANIFEST} names other files", str(directory))
    for name, expected in manifest.files.items():
        check_kind(directory / name, directory=False)
        if sha256(directory / name) != expected:
            raise SpecError("weights-mismatch", f"{name} is not what was written", str(directory))
    state = _STATE_DOCUMENT.read(read_text(directory / STATE, _MAX_STATE_BYTES), STATE)
    _require_plausible(state)
    try:
        with reading_errors(directory / TENSORS):
            tensors = read_tensors(directory / TENSORS)
    except SafetensorError as error:
        raise SpecError("bad-weights", f"it is no safetensors file ({error})", TENSORS) from error
    return Checkpoint(state, read_spec(directory), tensors)


def _require_plausible(state: CheckpointState) -> None:
    """Check what no single field says."""
    epochs = len(state.seconds)
    if epochs > limits.EPOCHS or not all(map(math.isfinite, state.seconds)):
        raise SpecError("bad-value", "it counts epochs that no run has", "seconds")
    measured = [measurement.epoch for measurement in state.history.measurements]
    if measured != list(range(1, epochs + 1)):
        raise SpecError("bad-value", "it has not one measurement per epoch", "history")
    contradiction = state.history.contradiction
    if contradiction:
        raise SpecError("bad-value", contradiction, "history")
