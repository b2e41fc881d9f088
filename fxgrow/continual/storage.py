"""A master network on disk: ``master.json``, typed and checked, and ``master.safetensors``.

The union network is an architecture like any other (``fxgrow.spec``), so nothing that is read is
executed. A task's mask is a bitset per width, eight neurons to a byte. Every task's network is read
out again and its fingerprint compared before anything is given back: a lost, added or reordered bit
is another network.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fxgrow.argument_checks import checked
from fxgrow.capture import capture
from fxgrow.continual.expansion import Expansion
from fxgrow.continual.master import Master
from fxgrow.continual.shared_network import SharedNetwork
from fxgrow.continual.state import TaskState, tensor_fingerprint
from fxgrow.continual.task_training import MasterSettings
from fxgrow.documents import aligned_copy, check_kind, reading_errors, recognition, sha256
from fxgrow.errors import SpecError
from fxgrow.spec import (
    ArchitectureSpec,
    Document,
    StrictModel,
    check_faithful,
    check_spec,
    dense_tensor,
    describe,
    meta_example_inputs,
    read_text,
    rebuild_module,
    save_tensors,
    state_tensors,
)
from fxgrow.surgery import named_tensors
from fxgrow.training import run_directory

RECORD, TENSORS = "master.json", "master.safetensors"
MASTER_VERSION: Literal[1] = 1
MAX_TASKS = 4096
_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Name = Annotated[str, Field(min_length=1, max_length=512)]


class TaskRecord(StrictModel):
    """A task without its tensors.

    Args:
        name: its name.
        classes: how many classes it has.
        fingerprint: of its network.
        reference_inputs: how many tensors its reference inputs are.
        reference_outputs: how many tensors its reference outputs are.
    """

    name: _Name
    classes: Annotated[int, Field(ge=1, le=2**31)]
    fingerprint: _Digest
    reference_inputs: Annotated[int, Field(ge=1, le=64)]
    reference_outputs: Annotated[int, Field(ge=1, le=64)]


class MasterRecord(StrictModel):
    """A master network without its tensors.

    Args:
        schema_version: of this document.
        head: the path of the head.
        settings: how it learns its tasks.
        union: the architecture of the union network.
        tasks: the tasks in the order in which they were learned.
        tensors: SHA-256 of the file of tensors.
    """

    schema_version: Literal[1] = MASTER_VERSION
    head: _Name
    settings: MasterSettings
    union: ArchitectureSpec
    tasks: Annotated[tuple[TaskRecord, ...], Field(max_length=MAX_TASKS)]
    tensors: _Digest


MASTER_DOCUMENT = Document("master", MasterRecord, MASTER_VERSION)


@checked
def save_master(master: Master, directory: str | Path) -> None:
    """Write a master network to a directory, all or nothing.

    It replaces a master network that was written there before, and nothing else. Wherever it is,
    what is written is the same network on the processor, so that it can be loaded anywhere.

    Args:
        master: the master network.
        directory: where to write it.

    Raises:
        SpecError: if the network's graph holds what cannot be read again.
        RunError: if the directory holds anything else, or cannot be written.

    Example:
        >>> save_master(master, "masters/digits")
        >>> master = load_master("masters/digits")
    """
    master = master.to("cpu")
    union = master.union
    captured = capture(union.module, union.inputs)
    # The spec is without widths, which are found again: in what order they are listed, and with
    # which line of code, depends on the caller.
    spec = describe(captured.graph_module, union.inputs)
    tensors = _named_for_file(master, state_tensors(captured.graph_module, spec))
    stranger = recognition.foreign_in_directory(recognition.MASTER_DIRECTORY_FORMAT)
    with run_directory(Path(directory), replace=True, stranger=stranger) as staging:
        save_tensors(dense_tensor(tensors), staging / TENSORS)
        record = MasterRecord(
            head=union.head,
            settings=master.settings,
            union=spec,
            tasks=tuple(_task_record(task) for task in master.tasks.values()),
            tensors=sha256(staging / TENSORS),
        )
        # Written last: it holds the digest of the other file.
        (staging / RECORD).write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _task_record(task: TaskState) -> TaskRecord:
    return TaskRecord(
        name=task.name,
        classes=task.classes,
        fingerprint=task.fingerprint,
        reference_inputs=len(task.reference_inputs),
        reference_outputs=len(task.reference_outputs),
    )


def _named_for_file(master: Master, union: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor under the name that it has in the file."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in union.items():
        tensors[_union_key(name)] = tensor
    for number, task in enumerate(master.tasks.values()):
        for name, mask in task.masks.items():
            tensors[_mask_key(number, name)] = torch.from_numpy(np.packbits(mask.numpy()))
        for name, tensor in task.own.items():
            tensors[_own_key(number, name)] = tensor
        for index, tensor in enumerate(task.reference_inputs):
            tensors[_input_key(number, index)] = tensor
        for index, tensor in enumerate(task.reference_outputs):
            tensors[_output_key(number, index)] = tensor
    return tensors


# The names of tensors in the file, of version 1 of its format.


def _union_key(name: str) -> str:
    return f"union/{name}"


def _mask_key(number: int, width: str) -> str:
    return f"{number}/mask/{width}"


def _own_key(number: int, name: str) -> str:
    return f"{number}/own/{name}"


def _input_key(number: int, index: int) -> str:
    return f"{number}/probe/{index}"


def _output_key(number: int, index: int) -> str:
    return f"{number}/said/{index}"


@checked
def load_master(directory: str | Path, *, expansion: Expansion | None = None) -> Master:
    """Read a master network, which can go on learning.

    It is on the processor (see ``Master.to``), and its networks are graph modules with the bits
    that they had.

    Args:
        directory: where ``save_master`` wrote it.
        expansion: how neurons are chosen, as in ``Master``.

    Returns:
        The master network.

    Raises:
        SpecError: for anything that is not as it was written; ``forgotten`` if a task's network is
            not the one that was learned.

    Example:
        >>> master = load_master("masters/digits")
        >>> scores = master.network("1")(images)
    """
    record = MASTER_DOCUMENT.read(read_text(Path(directory) / RECORD), RECORD)
    check_spec(record.union, frozenset())
    file = _TensorFile.of(Path(directory) / TENSORS, record)
    union_tensors: dict[str, Tensor] = {}
    for item in record.union.tensors:
        # A tied tensor is in the file once, under its first name.
        if item.tied_to is None:
            union_tensors[item.name] = file.take(_union_key(item.name))
    module = rebuild_module(record.union, union_tensors, frozenset())
    check_faithful(module, record.union, frozenset())
    example_inputs = meta_example_inputs(record.union)
    inputs = tuple(torch.zeros_like(value, device="cpu") for value in example_inputs)
    master = Master(module, inputs, head=record.head, expansion=expansion, settings=record.settings)
    for number, task in enumerate(record.tasks):
        master.tasks[task.name] = _task_state(master.union, task, number, file)
    # A tensor that nobody asked for would be lost at the next save.
    file.require_empty()
    return master


def _task_state(
    union: SharedNetwork, record: TaskRecord, number: int, file: "_TensorFile"
) -> TaskState:
    """Take the tensors of a task out of the file, and check that its network is as it was."""
    masks: dict[str, Tensor] = {}
    for name, mask in union.full_masks.items():
        masks[name] = file.take_mask(_mask_key(number, name), len(mask))
    shared = named_tensors(union.module)
    own: dict[str, Tensor] = {}
    for name in sorted(union.private):
        own[name] = file.take_like(_own_key(number, name), shared[name])
    input_keys = [_input_key(number, index) for index in range(record.reference_inputs)]
    output_keys = [_output_key(number, index) for index in range(record.reference_outputs)]
    reference_inputs = tuple(map(file.take, input_keys))
    reference_outputs = tuple(map(file.take, output_keys))
    if tensor_fingerprint(union.network(masks, own)) != record.fingerprint:
        raise file.error(
            "forgotten",
            f"task {record.name!r} is not the network that was learnt: a mask or a weight differs",
        )
    return TaskState(
        record.name,
        record.classes,
        masks,
        own,
        record.fingerprint,
        reference_inputs,
        reference_outputs,
    )


class _TensorFile:
    """The tensors of a file, each of which is taken once."""

    def __init__(self, path: Path, tensors: dict[str, Tensor]) -> None:
        self.path, self.tensors = path, tensors

    @staticmethod
    def of(path: Path, record: MasterRecord) -> "_TensorFile":
        """Read a file; ``SpecError`` if it is not the one that the record was written with."""
        check_kind(path, directory=False)
        tensor_file = _TensorFile(path, {})
        if sha256(path) != record.tensors:
            raise tensor_file.error("weights-mismatch", f"its SHA-256 is not the one in {RECORD}")
        try:
            with reading_errors(path), safe_open(path, framework="pt", device="cpu") as file:
                tensor_file.tensors.update(aligned_copy(file))
        except SafetensorError as error:
            raise tensor_file.error(
                "bad-weights", f"it is truncated or no safetensors file ({error})"
            ) from error
        return tensor_file

    def take(self, name: str) -> Tensor:
        """Take the tensor of that name."""
        if name not in self.tensors:
            raise self.error("missing-tensor", f"it has no {name!r}")
        return self.tensors.pop(name)

    def take_like(self, name: str, shared: Tensor) -> Tensor:
        """Take a tensor that can replace ``shared``: its sizes may differ, not its kind."""
        own = self.take(name)
        if _kind(own) != _kind(shared):
            raise self.error(
                "tensor-mismatch", f"{name!r} cannot take the place of a tensor of {_kind(shared)}"
            )
        return own

    def take_mask(self, name: str, count: int) -> Tensor:
        """Take a mask of ``count`` neurons."""
        packed = self.take(name)
        num_bytes = -(-count // 8)  # rounded up
        if packed.dtype != torch.uint8 or packed.shape != (num_bytes,):
            raise self.error("tensor-mismatch", f"{name!r} is no mask of {count} neurons")
        bits = np.unpackbits(packed.numpy())
        # The last byte is padded with zeros.
        if bits[count:].any() or not bits.any():
            raise self.error(
                "tensor-mismatch", f"{name!r} keeps neurons that there are not, or none"
            )
        return torch.from_numpy(bits[:count].astype(bool))

    def require_empty(self) -> None:
        """Check that every tensor was taken."""
        if self.tensors:
            raise self.error(
                "missing-tensor", f"{RECORD} does not speak of its {min(self.tensors)!r}"
            )

    def error(self, code: str, message: str) -> SpecError:
        return SpecError(code, f"{message}; save the master network again", str(self.path))


def _kind(tensor: Tensor) -> str:
    """What a tensor has to share with another one to take its place in a module."""
    if tensor.is_floating_point():
        numbers = "fractions"
    elif tensor.is_complex():
        numbers = "complex numbers"
    else:
        numbers = "integers"
    return f"{numbers} with {tensor.ndim} axes"
