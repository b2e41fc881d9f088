"""A master network on disk: ``master.json``, typed and checked, and one file of tensors, ``master.safetensors``.

The union network is an architecture like any other (``fxgrow.spec``), so nothing that is read is executed. A task's
mask is a bitset per width, eight neurons to a byte. Every task's network is read out again and its fingerprint compared
before anything is given back: a lost, added or reordered bit is another network.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from torch import Tensor

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
_MAX_TASKS = 4096
_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Name = Annotated[str, Field(min_length=1, max_length=512)]


class TaskRecord(StrictModel):
    """A task: its name, its classes, the fingerprint of its network, and how many tensors its probe and answer are."""

    name: _Name
    classes: Annotated[int, Field(ge=1, le=2**31)]
    fingerprint: _Digest
    reference_inputs: Annotated[int, Field(ge=1, le=64)]
    reference_outputs: Annotated[int, Field(ge=1, le=64)]


class MasterRecord(StrictModel):
    """A master network without its tensors; ``tensors``: SHA-256 of their file."""

    schema_version: Literal[1] = MASTER_VERSION
    head: _Name
    settings: MasterSettings
    union: ArchitectureSpec
    tasks: Annotated[tuple[TaskRecord, ...], Field(max_length=_MAX_TASKS)]
    tensors: _Digest


MASTER_DOCUMENT = Document("master", MasterRecord, MASTER_VERSION)


def save_master(master: Master, directory: str | Path) -> None:
    """Write ``master`` to ``directory``, all or nothing, over one that was written there before, and nothing else.

    Wherever it is, what is written is the same master network on the processor, so that it can be loaded anywhere.
    Raises ``SpecError`` if the network's graph holds what cannot be read again, ``RunError`` for the directory.
    """
    master = master.to("cpu")
    union = master.union
    captured = capture(union.module, union.inputs)
    # Without its widths, which are found again: in what order, and from which line of code, depends on the caller.
    spec = describe(captured.graph_module, union.inputs)
    with run_directory(
        Path(directory),
        replace=True,
        stranger=recognition.foreign_in_directory(recognition.MASTER_DIRECTORY_FORMAT),
    ) as staging:
        save_tensors(
            dense_tensor(dict(_tensors(master, state_tensors(captured.graph_module, spec)))),
            staging / TENSORS,
        )
        record = MasterRecord(
            head=union.head,
            settings=master.settings,
            union=spec,
            tasks=tuple(
                TaskRecord(
                    name=t.name,
                    classes=t.classes,
                    fingerprint=t.fingerprint,
                    reference_inputs=len(t.reference_inputs),
                    reference_outputs=len(t.reference_outputs),
                )
                for t in master.tasks.values()
            ),
            tensors=sha256(staging / TENSORS),
        )
        (staging / RECORD).write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _tensors(master: Master, union: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor under the name that it has in the file."""
    yield from ((f"union/{name}", tensor) for name, tensor in union.items())
    for number, task in enumerate(master.tasks.values()):
        for name, mask in task.masks.items():
            yield _mask(number, name), torch.from_numpy(np.packbits(mask.numpy()))
        yield from ((f"{number}/own/{name}", tensor) for name, tensor in task.own.items())
        for kind, found in (("probe", task.reference_inputs), ("said", task.reference_outputs)):
            yield from ((f"{number}/{kind}/{place}", tensor) for place, tensor in enumerate(found))


def _mask(number: int, width: str) -> str:
    return f"{number}/mask/{width}"


def load_master(directory: str | Path, *, expansion: Expansion | None = None) -> Master:
    """The master network in ``directory``, able to learn on; ``expansion`` as in ``Master``.

    It is on the processor (``Master.to``), and its networks are graph modules with the bits that they had. Raises
    ``SpecError`` for anything that is not as it was written; ``forgotten`` if a task's network is not the one that was
    learnt.
    """
    record = MASTER_DOCUMENT.read(read_text(Path(directory) / RECORD), RECORD)
    check_spec(record.union, frozenset())
    held = _Held.of(Path(directory) / TENSORS, record)
    names = [item.name for item in record.union.tensors if item.tied_to is None]
    module = rebuild_module(
        record.union, {name: held.take(f"union/{name}") for name in names}, frozenset()
    )
    check_faithful(module, record.union, frozenset())
    inputs = tuple(torch.zeros_like(x, device="cpu") for x in meta_example_inputs(record.union))
    master = Master(module, inputs, head=record.head, expansion=expansion, settings=record.settings)
    for number, task in enumerate(record.tasks):
        master.tasks[task.name] = _task(master.union, task, number, held)
    held.done()
    return master


def _task(union: SharedNetwork, record: TaskRecord, number: int, held: "_Held") -> TaskState:
    masks = {
        name: held.bits(_mask(number, name), len(mask)) for name, mask in union.full_masks.items()
    }
    shared = named_tensors(union.module)
    own = {name: held.like(f"{number}/own/{name}", shared[name]) for name in sorted(union.private)}
    reference_inputs, reference_outputs = (
        tuple(held.take(f"{number}/{kind}/{place}") for place in range(count))
        for kind, count in (("probe", record.reference_inputs), ("said", record.reference_outputs))
    )
    if tensor_fingerprint(union.network(masks, own)) != record.fingerprint:
        raise held.error(
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


class _Held:
    """The tensors of a file, each of which is asked for once."""

    def __init__(self, path: Path, tensors: dict[str, Tensor]) -> None:
        self.path, self.tensors = path, tensors

    @staticmethod
    def of(path: Path, record: MasterRecord) -> "_Held":
        """All of them. Raises ``SpecError`` if the file is not the one that the record was written with."""
        check_kind(path, directory=False)
        held = _Held(path, {})
        if sha256(path) != record.tensors:
            raise held.error("weights-mismatch", f"its SHA-256 is not the one in {RECORD}")
        try:
            with reading_errors(path), safe_open(path, framework="pt", device="cpu") as file:
                held.tensors.update(aligned_copy(file))
        except SafetensorError as error:
            raise held.error(
                "bad-weights", f"it is truncated or no safetensors file ({error})"
            ) from error
        return held

    def take(self, name: str) -> Tensor:
        """The tensor of that name."""
        if name not in self.tensors:
            raise self.error("missing-tensor", f"it has no {name!r}")
        return self.tensors.pop(name)

    def like(self, name: str, shared: Tensor) -> Tensor:
        """The tensor of that name, which can take the place of ``shared``: its sizes may differ, not its kind."""
        own = self.take(name)
        if _kind(own) != _kind(shared):
            raise self.error(
                "tensor-mismatch", f"{name!r} cannot take the place of a tensor of {_kind(shared)}"
            )
        return own

    def bits(self, name: str, count: int) -> Tensor:
        """A mask of ``count`` neurons."""
        packed = self.take(name)
        if packed.dtype != torch.uint8 or packed.shape != (-(-count // 8),):
            raise self.error("tensor-mismatch", f"{name!r} is no mask of {count} neurons")
        bits = np.unpackbits(packed.numpy())
        if bits[count:].any() or not bits.any():
            raise self.error(
                "tensor-mismatch", f"{name!r} keeps neurons that there are not, or none"
            )
        return torch.from_numpy(bits[:count].astype(bool))

    def done(self) -> None:
        """Nothing may be left over."""
        if self.tensors:
            raise self.error(
                "missing-tensor", f"{RECORD} does not speak of its {min(self.tensors)!r}"
            )

    def error(self, code: str, message: str) -> SpecError:
        return SpecError(code, f"{message}; save the master network again", str(self.path))


def _kind(tensor: Tensor) -> str:
    """What a tensor has to share with another one to take its place in a module."""
    numbers = (
        "fractions"
        if tensor.is_floating_point()
        else "complex numbers"
        if tensor.is_complex()
        else "integers"
    )
    return f"{numbers} with {tensor.ndim} axes"
