"""Data parallel training: every process of a group trains on its part of each batch.

Reference: Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training",
VLDB 2020. ``DistributedDataParallel`` averages the gradients; buffers are those of the first
process.

How we differ: every process takes the same batches in the same order, as one process would, and
then its part of each. So the parts may be uneven, and count by their images; augmentation draws
what it draws in one process; and a run may go on with another number of processes.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_map

from fxgrow.errors import DataError, FxgrowError, TrainingError
from fxgrow.growth import Batch, Budget, Method, needs_one_process
from fxgrow.memory import device_of
from fxgrow.randomness import drawing_apart
from fxgrow.ranks import ALONE, Ranks, reason_of_loss
from fxgrow.running import CALLED_CODE_ERRORS, input_target_pairs
from fxgrow.training.evaluate import Evaluation, evaluate

_LOST = ("gloo", "nccl", "connection closed by peer", "connection reset by peer")
"""What torch's errors speak of when another process is gone, in lower case."""


@dataclass(frozen=True, eq=False)
class Shard:
    """The part of a batch that this process trains on.

    Args:
        inputs: of the model.
        target: of each example.
        weight: of its mean loss, so that the mean over the processes is that over the batch.
    """

    inputs: Any
    target: Tensor
    weight: float


@dataclass(frozen=True, eq=False)
class Shards:
    """How batches are divided among the processes of a group; alone, nothing is.

    Args:
        ranks: the processes.
        least: the fewest examples that a process can train on.
        seed: of what the passes of a process draw.
    """

    ranks: Ranks = ALONE
    least: int = 1
    seed: int = 0

    @staticmethod
    def of_process(model: nn.Module, seed: int) -> "Shards":
        """The processes of the default group, if there is one of several.

        Args:
            model: what is trained. A batch norm takes two examples at least.
            seed: of the run.
        """
        ranks = Ranks.of_process()
        has_norms = any(isinstance(module, _BatchNorm) for module in model.modules())
        return Shards(ranks, least=2 if has_norms else 1, seed=seed)

    @property
    def is_alone(self) -> bool:
        """Whether there is one process."""
        return self.ranks.count == 1

    def of(self, inputs: Any, target: Tensor) -> Shard:
        """The part of a batch that this process trains on.

        A last batch may be too small for all of them. Then those that get none train on the part of
        the first one, with a weight of 0: all must take part in every exchange.
        """
        if self.is_alone:
            return Shard(inputs, target, 1.0)
        size, number = len(target), self.ranks.number
        # As many as there are examples for, so that no part is too small.
        parts = min(self.ranks.count, max(1, size // self.least))
        part = _bounds(size, parts, number if number < parts else 0)
        share = (part.stop - part.start) / size if number < parts else 0.0
        return Shard(_cut(inputs, part), target[part], share * self.ranks.count)

    def of_all(self, batches: Sequence[Batch]) -> list[Batch]:
        """The parts of growth batches, none of which is empty; a growth step weighs them itself."""
        if self.is_alone:
            return list(batches)
        count, number = self.ranks.count, self.ranks.number
        shards = []
        for inputs, target in batches:
            part = _bounds(len(target), count, number)
            shards.append((_cut(inputs, part), target[part]))
        return shards

    def mean(self, value: float, weight: float) -> float:
        """The mean of a loss over the batch that is divided, the same in all processes."""
        if self.is_alone:
            return value
        # Nothing of a part that counts nothing, be it no number.
        own = value * weight if weight else 0.0
        return self.ranks.total_of_step(own) / self.ranks.count

    def wrapped(self, model: nn.Module) -> nn.Module:
        """A model whose backward pass averages the gradients over the processes.

        Args:
            model: its weights become those of the first process.
        """
        if self.is_alone:
            return model
        # A layer may have no use for the examples of one process (experts), or be left out by
        # chance; then only the others have gradients.
        return DistributedDataParallel(_WithUnused(model), find_unused_parameters=True)

    def drawing(self, step: int) -> AbstractContextManager[None]:
        """What a step draws: in each process something else, and the rest of the run goes on alike.

        Args:
            step: its number in the run.
        """
        if self.is_alone:
            return nullcontext()
        number = step * self.ranks.count + self.ranks.number
        return drawing_apart((self.seed + number * _STRIDE) % 2**63)

    def evaluate(self, model: nn.Module, batches: Iterable[Batch]) -> Evaluation:
        """Evaluate a model, each process on its part of every batch.

        Args:
            model: the same in all of them.
            batches: pairs of images and class indices.

        Returns:
            The mean over all images, the same in all processes.
        """
        if self.is_alone:
            return evaluate(model, batches)
        parts, images = [], 0
        for inputs, target in input_target_pairs(batches):
            part = _bounds(len(target), self.ranks.count, self.ranks.number)
            if part.start < part.stop:
                parts.append((_cut(inputs, part), target[part]))
                images += part.stop - part.start
        sums = torch.zeros(3, dtype=torch.float64)
        # A process may have nothing to evaluate, and takes part in the sum all the same.
        if parts:
            with drawing_apart(self.seed):
                own = evaluate(model, parts)
            # Counts again, of the share that they gave.
            correct = round(own.accuracy * images)
            sums = torch.tensor([own.loss * images, correct, images], dtype=torch.float64)
        (sums,) = self.ranks.sums([sums])
        loss, correct, total = sums.tolist()
        if not total:
            raise DataError(
                "no-batches", "there is no image to evaluate the model on; give at least one"
            )
        return Evaluation(loss / total, correct / total)

    @torch.no_grad()
    def share_buffers(self, *models: nn.Module | None) -> None:
        """Let the buffers of models be those of the first process, as they are in each step."""
        if self.is_alone:
            return
        buffers: list[Tensor] = []
        for model in models:
            buffers.extend(() if model is None else model.buffers())
        for buffer, first in zip(buffers, self.ranks.of_first(buffers), strict=True):
            buffer.copy_(first)

    @contextmanager
    def losses_told(self) -> Iterator[None]:
        """Say in one sentence that another process is gone, wherever torch finds out.

        Raises:
            TrainingError: ``rank-failed``.
        """
        try:
            yield
        except (FxgrowError, *CALLED_CODE_ERRORS) as error:
            lost = None if self.is_alone else _loss_in(error)
            if lost is None:
                raise
            sentence = str(lost)
            if not isinstance(lost, FxgrowError):
                sentence = (
                    f"another process of the group is gone ({reason_of_loss(lost)}), so this one "
                    "stops too; start all of them again"
                )
            raise TrainingError("rank-failed", sentence) from error


UNDIVIDED = Shards()
"""One process."""


class _WithUnused(nn.Module):
    """A model beside a parameter that no pass uses: torch warns where it looks for one in vain.

    Args:
        model: what is run.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.unused = nn.Parameter(torch.zeros((), device=device_of(model)))

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Run the model."""
        return self.model(*inputs, **named)


_STRIDE = 0x9E3779B97F4A7C15
"""Sets seeds of neighboring steps apart: 2^64 by the golden ratio, an odd number."""


def _bounds(size: int, count: int, number: int) -> slice:
    """The examples of one of ``count`` parts of a batch, which differ by one at most."""
    return slice(size * number // count, size * (number + 1) // count)


def _cut(inputs: Any, part: slice) -> Any:
    """A part of the inputs: of every tensor in them that has examples along its first axis."""

    def cut(leaf: Any) -> Any:
        return leaf[part] if isinstance(leaf, Tensor) and leaf.dim() else leaf

    return tree_map(cut, inputs)


def _loss_in(error: BaseException) -> BaseException | None:
    """The error of an exchange with a process that is gone, or failed: this one or its cause."""
    cause: BaseException | None = error
    while cause is not None and not _is_loss(cause):
        cause = cause.__cause__
    return cause


def _is_loss(error: BaseException) -> bool:
    if isinstance(error, FxgrowError):
        return error.code == "rank-failed"
    # Those of gloo have no class of their own.
    told = isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _LOST)
    return told or isinstance(error, dist.DistError)


def require_shards(
    shards: Shards, model: nn.Module, batch: int, growth_batch: int, has_growth: bool
) -> None:
    """Check that there is a part of every batch for each process.

    Args:
        shards: how batches are divided.
        model: what is trained.
        batch: examples in a training batch.
        growth_batch: examples in a growth batch.
        has_growth: whether anything is to grow.

    Raises:
        TrainingError: ``bad-setting``.
    """
    if shards.is_alone:
        return
    count, least = shards.ranks.count, shards.least
    # A last batch may be smaller, the others not.
    if batch < count * least:
        why = "the two that a batch norm needs" if least == 2 else "one"
        raise TrainingError(
            "bad-setting",
            f"a training batch of {batch} images does not give each of {count} processes {why}; "
            "give a larger batch_size, or start fewer processes",
        )
    if has_growth and growth_batch < count:
        raise TrainingError(
            "bad-setting",
            f"a growth batch of {growth_batch} images does not give each of {count} processes "
            "one; give a larger growth_batch_size, or start fewer processes",
        )
    device = device_of(model)
    if device is not None and device.type not in ("cpu", "cuda"):
        raise TrainingError(
            "bad-setting",
            f"several processes train on processors or on GPUs of NVIDIA, and not on {device.type};"
            " start one process",
        )


def require_method(shards: Shards, method: Method, budget: Budget) -> None:
    """Check that what grows the model is computed over several processes.

    Raises:
        GrowthError: ``one-process``.
    """
    if shards.is_alone:
        return
    if needs_one_process(method):
        shards.ranks.require_alone(type(method).__name__)
    if budget.latency is not None:
        shards.ranks.require_alone("A budget of measured latency")
