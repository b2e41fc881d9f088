"""A master network that learns task after task and never forgets.

Reference: Wu et al., "Firefly Neural Architecture Descent", NeurIPS 2020, Sec. 2.4 and Figure 2.
The master network is the union of the networks of all tasks; each is read out of it by a mask over
neurons. A new task first tries what is there, with a head and normalization of its own; where that
does not do, locked, unlocked and new neurons are chosen by the two steps of Firefly descent, what
belongs to the task is trained, and the master network is the union again.

How we differ: old neurons that the new task's loss would not miss are left out of its network
(``reuse``); a task's network is always a compact module, so that its arithmetic does not depend on
what was added later, and the earlier ones are compared to the bit after every task.
"""

import copy
from collections.abc import Sized
from itertools import islice
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Device, Fraction, Name, Seed, Within
from fxgrow.capture import positional_inputs
from fxgrow.continual.expansion import Expansion, ScoredExpansion
from fxgrow.continual.outcome import TaskOutcome, task_outcome
from fxgrow.continual.settings import Loader
from fxgrow.continual.shared_network import SharedNetwork, TaskNetwork, pad_masks
from fxgrow.continual.state import TaskState, bit_equal, eval_outputs, tensor_fingerprint
from fxgrow.continual.task import require_learned, require_new
from fxgrow.continual.task_training import (
    MasterSettings,
    TaskRequest,
    TrainedTask,
    train_first_task,
    train_next_task,
)
from fxgrow.documents import limits
from fxgrow.errors import DataError, InternalError
from fxgrow.growth import Budget, LossFunction
from fxgrow.modes import evaluation_mode
from fxgrow.running import input_target_pairs
from fxgrow.surgery import named_tensors
from fxgrow.timing import Stopwatch
from fxgrow.training import accuracy, cross_entropy, require_labels, run_on_batch, seeded

REFERENCE_INPUTS = 8
"""Examples of a task that are shown to its network again after every later task."""
DEFAULT_BUDGET = Budget(neurons=0.1)
_NO_LOADER = (
    "the batches of a task have no length, so they can be used only once, but it is learnt in "
    "several epochs; give a list or a DataLoader"
)
Classes = Annotated[int, Within(1, limits.CLASSES)]
"""How many classes a task may have."""


class Master:
    """The union network of all tasks, over a copy of a model.

    Args:
        model: the network that the first task starts from; it is copied.
        example_inputs: inputs of the model, as ``fxgrow.capture`` takes them.
        head: path of the layer that gives the class scores; None: the last layer.
        expansion: how neurons are chosen; None: ``ScoredExpansion()``, that is Firefly.
        settings: how tasks are trained, and when they grow.

    Raises:
        GrowthError: ``no-head`` if there is no single last layer that gives class scores.

    Example:
        >>> master = Master(model, (images,))
        >>> for task in split_classes(load_data("digits"), 5):
        ...     master.learn(task.name, batches(task.train, 32), batches(task.valid, 256),
        ...                  classes=task.classes)
        >>> scores = master.network("1")(images)
    """

    @checked
    def __init__(
        self,
        model: nn.Module,
        example_inputs: Any,
        *,
        head: str | None = None,
        expansion: Expansion | None = None,
        settings: MasterSettings | None = None,
    ) -> None:
        self.union = SharedNetwork.of(model, example_inputs, head)
        self.expansion = ScoredExpansion() if expansion is None else expansion
        self.settings = MasterSettings() if settings is None else settings
        self.tasks: dict[str, TaskState] = {}

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next(self.union.module.parameters()).device

    @checked
    def to(self, device: Device) -> "Master":
        """Move to a device.

        Another device rounds differently, so there the reference outputs of every task are computed
        anew; the fingerprints stay, and ``check`` knows by them that no network has changed.

        Args:
            device: the device.

        Returns:
            The master itself if it is there already, else a copy.
        """
        # An empty tensor tells which device a name stands for: "cuda" is "cuda:0".
        if torch.empty(0, device=device).device == self.device:
            return self
        moved = copy.copy(self)
        moved.union = self.union.to(device)
        moved.tasks = {}
        for name, state in self.tasks.items():
            moved.tasks[name] = state.to(self.network(name).to(device), device)
        return moved

    @property
    def parameters(self) -> int:
        """The parameters of the master network and those that the tasks have for themselves.

        Statistics and masks are not counted.
        """
        private = self.union.private
        named = dict(self.union.module.named_parameters())
        total = 0
        for name, parameter in named.items():
            if name not in private:
                total += parameter.numel()
        # Of what a task has for itself, buffers are no parameters.
        for task in self.tasks.values():
            for name, tensor in task.own.items():
                if name in named:
                    total += tensor.numel()
        return total

    @checked
    def network(self, task: str) -> nn.Module:
        """Give the network of a task by itself, in evaluation mode.

        Args:
            task: the name of a task that was learned.

        Returns:
            A compact module of the model's class; it can be changed without harm.

        Raises:
            DataError: ``unknown-task``.
        """
        state = self.tasks[require_learned(self.tasks, task)]
        return self.union.network(state.masks, state.own)

    def check(self) -> None:
        """Check that every task's network is what it was, and computes what it did, to the bit.

        Raises:
            InternalError: if a task was forgotten.
        """
        for name, state in self.tasks.items():
            network = self.network(name)
            unchanged = tensor_fingerprint(network) == state.fingerprint
            if unchanged:
                # The tensors are the same; so is the graph only if the outputs are too.
                outputs = eval_outputs(network, state.reference_inputs)
                unchanged = bit_equal(outputs, state.reference_outputs)
            if not unchanged:
                raise InternalError(
                    f"task {name} was forgotten: its network is not what it was when it was learnt"
                )

    @checked
    def learn(
        self,
        task: Name,
        train: Loader,
        valid: Loader,
        *,
        classes: Classes,
        loss: LossFunction = cross_entropy,
        budget: Budget = DEFAULT_BUDGET,
        target: Fraction | None = None,
        seed: Seed = 0,
    ) -> TaskOutcome:
        """Learn one more task; if anything fails, nothing changes.

        Args:
            task: its name.
            train: batches to train on; labels count from 0 to below ``classes``.
            valid: batches to validate on.
            classes: how many classes the task has.
            loss: of the network's output and the labels.
            budget: what the task may unlock and add, relative to the neurons that it uses.
            target: the accuracy on ``valid`` with which the task is done; None: a later task grows
                in any case.
            seed: decides everything that is drawn at random.

        Returns:
            What learning took, and what it added.

        Raises:
            DataError: ``known-task``, ``no-batches``.
            TrainingError: ``nan-loss``.
            BudgetError: if the budget pays for no neuron.
            GrowthError: ``no-candidates``, ``nan-loss``.
        """
        # Refused before any work is spent.
        require_new(self.tasks, task)
        self._require_first_batches(train, valid, classes)
        stopwatch = Stopwatch.start()
        request = TaskRequest(
            train, valid, classes, loss, budget, target, seed, self.expansion, self.settings
        )
        trained = self._train(request)
        union, tasks = self._merged(task, classes, trained.draft, next(iter(train))[0])
        # Measuring and checking are not part of learning.
        times = {"seconds": stopwatch.seconds, "cpu_seconds": stopwatch.cpu_seconds}
        network = union.network(tasks[task].masks, tasks[task].own)
        valid_accuracy = accuracy(network, valid)
        check_stopwatch = Stopwatch.start()
        self._keep(union, tasks)
        times["check_seconds"] = check_stopwatch.seconds
        outcome = task_outcome(task, classes, trained, self.union, self.parameters, valid_accuracy)
        return outcome.model_copy(update=times)

    def _require_first_batches(self, train: Loader, valid: Loader, classes: int) -> None:
        """Check that there are batches, and that the network runs on the first ones."""
        with evaluation_mode(self.union.module), torch.no_grad():
            loaders: tuple[Any, Any] = (train, valid)
            for loader in loaders:
                # Of a generator nothing would be left for the training.
                if not isinstance(loader, Sized) or isinstance(loader, Tensor):
                    raise DataError("bad-batch", _NO_LOADER)
                batches: Any = loader
                for inputs, target in islice(input_target_pairs(batches), 1):
                    run_on_batch(self.union.module, inputs)
                    require_labels(target, classes)

    def _train(self, request: TaskRequest) -> TrainedTask:
        """Train a network for the task; the union stays as it is."""
        train_task = train_next_task if self.tasks else train_first_task
        with seeded(request.seed):
            return train_task(self.union, request)

    def _merged(
        self, task: str, classes: int, draft: TaskNetwork, example: Any
    ) -> tuple[SharedNetwork, dict[str, TaskState]]:
        """The union with a draft in it, and all tasks in it."""
        union, masks = self.union.merged(draft) if self.tasks else _first_union(self.union, draft)
        tasks: dict[str, TaskState] = {}
        for name, state in self.tasks.items():
            tasks[name] = state.with_masks(pad_masks(state.masks, union))
        reference_inputs: list[Any] = []
        # The first examples of the first batch, argument by argument.
        for value in positional_inputs(draft.network, example):
            is_tensor = isinstance(value, Tensor)
            reference_inputs.append(_dense(value[:REFERENCE_INPUTS]) if is_tensor else value)
        tasks[task] = _state(task, classes, masks, union, tuple(reference_inputs))
        return union, tasks

    def _keep(self, union: SharedNetwork, tasks: dict[str, TaskState]) -> None:
        """Go on with these, unless an earlier task's network is not what it was."""
        # Swapped first, because the check reads networks out of the new union.
        before = self.union, self.tasks
        self.union, self.tasks = union, tasks
        try:
            self.check()
        except BaseException:
            self.union, self.tasks = before
            raise


def _first_union(
    union: SharedNetwork, draft: TaskNetwork
) -> tuple[SharedNetwork, dict[str, Tensor]]:
    """The first task's network is all of the union."""
    first = SharedNetwork.of(draft.network, union.inputs, union.head)
    return first, first.full_masks


def _dense(reference_inputs: Tensor) -> Tensor:
    """A copy in the memory layout that it will have when it is read from disk.

    Kernels may sum in another order for another layout: only with the same layout are the outputs
    the same to the bit.
    """
    return reference_inputs.clone(memory_format=torch.contiguous_format)


def _state(
    task: str,
    classes: int,
    masks: dict[str, Tensor],
    union: SharedNetwork,
    reference_inputs: tuple[Any, ...],
) -> TaskState:
    network = union.network(masks, {})
    tensors = named_tensors(network)
    own = {name: tensors[name].detach().clone() for name in sorted(union.private)}
    return TaskState(
        task,
        classes,
        masks,
        own,
        tensor_fingerprint(network),
        reference_inputs,
        eval_outputs(network, reference_inputs),
    )
