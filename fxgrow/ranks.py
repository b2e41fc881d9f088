"""The processes that grow one model together: whatever decides is the same number on all of them.

Reference: Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training",
VLDB 2020: every process has its own examples and the same parameters, and gradients are averaged.
How we differ: means are weighted by numbers of examples, so shards may be uneven, and only what a
growth step decides by is sent: gradients of candidates, losses, statistics of batch norms.

A process that fails must not leave the others waiting for it. So every exchange begins with a flag:
where one process has failed, it says so in the exchange that the others are about to make, and all
of them raise, each inside its own ``restore_on_failure``.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from fxgrow.errors import FxgrowError, GrowthError

_PLACE = re.compile(r"\[[^\[\]]*\.(cc|cpp|h):\d+\] *")
"""Where in torch's own code an error was raised."""
_FAILED = "fxgrow/failed"
_PAUSE = 0.02
"""Seconds between two looks at whether all have come."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """The processes of a group; without one this process is alone, and nothing is ever sent.

    Args:
        group: a ``ProcessGroup``.
    """

    group: Any = None

    @staticmethod
    def of_process() -> "Ranks":
        """All processes of the default group, if there is one of several."""
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            return Ranks(dist.group.WORLD)
        return ALONE

    @property
    def count(self) -> int:
        """How many processes there are."""
        return 1 if self.group is None else int(dist.get_world_size(self.group))

    @property
    def number(self) -> int:
        """Which of them this one is, from 0."""
        return 0 if self.group is None else int(dist.get_rank(self.group))

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.number == 0

    def sums(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sum over all processes of each of some tensors, which all of them have alike.

        Args:
            tensors: of any shapes; sent in one message per dtype.

        Returns:
            New tensors, the same to the bit in every process; ``tensors`` where it is alone.

        Raises:
            GrowthError: ``rank-failed``: another process failed, or is gone.
        """
        if self.group is None:
            return list(tensors)
        self._exchange_flag(failed=False)
        summed: list[Tensor] = list(tensors)
        for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):
            places = [place for place, tensor in enumerate(tensors) if tensor.dtype == dtype]
            flat = torch.cat([tensors[place].detach().flatten() for place in places])
            self._reduce(flat, dist.ReduceOp.SUM)
            sizes = [tensors[place].numel() for place in places]
            for place, part in zip(places, flat.split(sizes), strict=True):
                summed[place] = part.reshape(tensors[place].shape)
        return summed

    @contextmanager
    def exchange(self) -> Iterator[None]:
        """Make an exchange of torch's own inside, after a flag.

        Raises:
            GrowthError: ``rank-failed``: another process failed, or is gone.
        """
        if self.group is None:
            yield
            return
        self._exchange_flag(failed=False)
        with _losses_told():
            yield

    def total(self, number: float) -> float:
        """The sum of a number over all processes."""
        (total,) = self.sums([torch.tensor([number], dtype=torch.float64)])
        return float(total)

    def total_of_step(self, number: float) -> float:
        """The sum of a number, without a flag before it: a process that fails in training ends."""
        total = torch.tensor([number], dtype=torch.float64)
        self._reduce(total, dist.ReduceOp.SUM)
        return float(total)

    def largest(self, number: float | None) -> float | None:
        """The largest of a number; None if a process does not know it."""
        if self.group is None:
            return number
        self._exchange_flag(failed=False)
        known = torch.tensor([torch.inf if number is None else number], dtype=torch.float64)
        self._reduce(known, dist.ReduceOp.MAX)
        return None if known.isinf() else float(known)

    def mean_gradients(
        self, gradients: Sequence[Tensor | None], learning: Sequence[Tensor], size: int
    ) -> list[Tensor | None]:
        """The mean of gradients over the examples of all processes.

        Args:
            gradients: of the mean loss of this process, one for each of ``learning``.
            learning: what the gradients belong to.
            size: how many examples this process has.

        Returns:
            The means; None where no process has a gradient.
        """
        if self.group is None:
            return list(gradients)
        parts, has = [], []
        for gradient, tensor in zip(gradients, learning, strict=True):
            parts.append(torch.zeros_like(tensor) if gradient is None else gradient * size)
            has.append(gradient is not None)
        flags = torch.tensor(has, dtype=torch.float64)
        sizes = torch.tensor([size], dtype=torch.float64)
        *sums, flags, total = self.sums([*parts, flags, sizes])
        found: list[Tensor | None] = []
        for gradient_sum, is_there in zip(sums, flags.tolist(), strict=True):
            found.append(gradient_sum / float(total) if is_there else None)
        return found

    def of_first(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Copies of what the first process has of tensors that all of them have alike."""
        if self.group is None:
            return list(tensors)
        self._exchange_flag(failed=False)
        found = []
        for tensor in tensors:
            sent = tensor.detach().to(self._device, copy=True).contiguous()
            dist.broadcast(sent, src=dist.get_global_rank(self.group, 0), group=self.group)
            found.append(sent.to(tensor.device))
        return found

    def after_first(self, work: Callable[[], object]) -> None:
        """Let the first process do something, while the others wait for it, however long it takes.

        Args:
            work: what it does.

        Raises:
            GrowthError: ``rank-failed``, where the first process failed or is gone.
        """
        if self.is_first:
            try:
                work()
            except BaseException:
                if self.group is not None:
                    self._store.set(_FAILED, "")
                raise
        self.meet()

    def meet(self) -> None:
        """Wait until all processes have come here, however long they take.

        Exchanges end with an error after the timeout of the group, and to read a model or to write
        a checkpoint on a slow disk may take longer. So they look again and again whether all are
        there, and may be interrupted in between.

        Raises:
            GrowthError: ``rank-failed``: another process failed, or the store is gone.
        """
        if self.group is None:
            return
        store = self._store
        try:
            # Each counts its own meetings, and all have as many.
            number = store.add(f"fxgrow/meetings/{self.number}", 1)
            meeting = f"fxgrow/meeting/{number}"
            come = store.add(meeting, 1)
            while come < self.count:
                if store.check([_FAILED]):
                    raise _failed()
                time.sleep(_PAUSE)
                come = store.add(meeting, 0)
        except RuntimeError as error:
            raise GrowthError(
                "rank-failed",
                f"the processes of the group lost each other ({reason_of_loss(error)}), so this "
                "one stops; start all of them again",
            ) from error

    def decided(self, decision: bool) -> bool:
        """What the first process decides."""
        (first,) = self.of_first([torch.tensor([decision])])
        return bool(first)

    def require_same(self, what: str, content: bytes) -> None:
        """Check that all processes have come to the same.

        Args:
            what: what it is, in a plural.
            content: the same bytes in every process.

        Raises:
            GrowthError: ``ranks-differ``, in every process.
        """
        if self.group is None:
            return
        digest = hashlib.sha256(content).digest()[:6]  # a float64 holds 48 bits
        number = float(int.from_bytes(digest, "big"))
        highest, lowest = self.largest(number), self.largest(-number)
        if highest is None or lowest is None or highest != -lowest:
            raise GrowthError(
                "ranks-differ",
                f"the processes have different {what}, so they would grow different models; "
                "nothing was changed; begin all of them with the same model, options and seed",
            )

    def require_alone(self, what: str) -> None:
        """Refuse what is not computed over several processes.

        Args:
            what: it, as the beginning of a sentence.

        Raises:
            GrowthError: ``one-process``.
        """
        if self.group is not None:
            raise GrowthError(
                "one-process",
                f"{what} is not computed over several processes, and there are {self.count}; "
                "choose another method, or grow in one process before the group is made",
            )

    @contextmanager
    def together(self) -> Iterator[None]:
        """Fail in all processes if one of them fails inside.

        Raises:
            GrowthError: ``rank-failed``, where another process failed.
        """
        if self.group is None:
            yield
            return
        try:
            yield
            self._exchange_flag(failed=False)
        except BaseException as error:
            if not (isinstance(error, FxgrowError) and error.code == "rank-failed"):
                self._tell_failure()
            raise

    def _tell_failure(self) -> None:
        try:
            self._exchange_flag(failed=True)
        except GrowthError:  # of this flag itself, or since the others are gone: nobody waits
            return

    def _exchange_flag(self, failed: bool) -> None:
        flag = torch.tensor([float(failed)], dtype=torch.float64)
        self._reduce(flag, dist.ReduceOp.SUM)
        if flag.item():
            raise _failed()

    def _reduce(self, tensor: Tensor, operation: Any) -> None:
        """Reduce a tensor over the processes, in place, on the device that the group works on."""
        sent = tensor.to(self._device)
        with _losses_told():
            dist.all_reduce(sent, op=operation, group=self.group)
        if sent is not tensor:
            tensor.copy_(sent)

    @property
    def _store(self) -> Any:
        """What the processes met at; torch has no public name for it."""
        return dist.distributed_c10d._get_default_store()

    @property
    def _device(self) -> torch.device:
        is_nccl = dist.get_backend(self.group) == "nccl"
        return torch.device("cuda", torch.cuda.current_device()) if is_nccl else torch.device("cpu")


@contextmanager
def _losses_told() -> Iterator[None]:
    """Say in one sentence that another process is gone."""
    try:
        yield
    except RuntimeError as error:
        raise GrowthError(
            "rank-failed",
            f"another process of the group is gone ({reason_of_loss(error)}), so this one "
            "stops too; start all of them again",
        ) from error


def reason_of_loss(error: BaseException) -> str:
    """The first words of torch's error about a process that is gone, without places in its code.

    Example:
        >>> reason_of_loss(RuntimeError("[pair.cc:561] Connection closed by peer. Check ..."))
        'Connection closed by peer'
    """
    words = _PLACE.sub("", " ".join(str(error).split()))
    return words.partition(". ")[0][:200]


def _failed() -> GrowthError:
    return GrowthError(
        "rank-failed",
        "another process of the group failed, and says why, so this one stops too",
    )


ALONE = Ranks()
"""One process."""
