"""A master network that learns task after task and never forgets.

Reference: Wu et al., "Firefly Neural Architecture Descent", NeurIPS 2020, Sec. 2.4 and Figure 2. The master network is
the union of the networks of all tasks; each is read out of it by a mask over neurons. A new task first tries what is
there, with a head and normalisation of its own; where that does not do, locked, unlocked and new neurons are chosen by
the two steps of Firefly descent, what belongs to the task is trained, and the master network is the union again.
How we differ: old neurons that the new task's loss would not miss are left out of its network (``reuse``); a task's
network is always a compact module, so that its arithmetic does not depend on what was added later, and the earlier
ones are compared to the bit after every task.
"""

import copy
import time
from typing import Any

import torch
from torch import Tensor, nn

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
    train_first_task,
    train_next_task,
)
from fxgrow.errors import InternalError
from fxgrow.growth import Budget, LossFunction
from fxgrow.surgery import named_tensors
from fxgrow.training import accuracy, cross_entropy, seeded

REFERENCE_INPUTS = 8
"""Examples of a task that its network is asked again after every later task."""
DEFAULT_BUDGET = Budget(neurons=0.1)


class Master:
    """The union network of all tasks, over a copy of ``model``.

    ``example_inputs``: as ``fxgrow.capture`` takes them; ``head``: the path of the layer that gives the class scores
    (None: the last one); ``expansion``: how neurons are chosen. Raises ``GrowthError`` (``no-head``) if there is none.
    """

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
        self.expansion, self.settings = expansion or ScoredExpansion(), settings or MasterSettings()
        self.tasks: dict[str, TaskState] = {}

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next(self.union.module.parameters()).device

    def to(self, device: torch.device | str) -> "Master":
        """The same on ``device``: itself if it is there already, else a copy.

        Another device rounds differently, so there every network is asked anew; ``check`` knows by the
        fingerprints, which stay, that none has changed by a bit.
        """
        if torch.empty(0, device=device).device == self.device:
            return self
        found = copy.copy(self)
        found.union = self.union.to(device)
        found.tasks = {
            name: state.to(self.network(name).to(device), device)
            for name, state in self.tasks.items()
        }
        return found

    @property
    def parameters(self) -> int:
        """The parameters of the master network and those that the tasks have for themselves; no statistics or masks."""
        own, named = self.union.private, dict(self.union.module.named_parameters())
        shared = sum(parameter.numel() for name, parameter in named.items() if name not in own)
        return shared + sum(
            t.numel()
            for task in self.tasks.values()
            for name, t in task.own.items()
            if name in named
        )

    def network(self, task: str) -> nn.Module:
        """The network of a task by itself: a compact module of the model's class, in evaluation mode.

        Raises ``DataError`` (``unknown-task``).
        """
        state = self.tasks[require_learned(self.tasks, task)]
        return self.union.network(state.masks, state.own)

    def check(self) -> None:
        """Every task's network must be what it was, and say what it said, to the last bit; else ``InternalError``."""
        for name, state in self.tasks.items():
            network = self.network(name)
            if tensor_fingerprint(network) != state.fingerprint or not bit_equal(
                eval_outputs(network, state.reference_inputs), state.reference_outputs
            ):
                raise InternalError(
                    f"task {name} was forgotten: its network is not what it was when it was learnt"
                )

    def learn(
        self,
        task: str,
        train: Loader,
        valid: Loader,
        *,
        classes: int,
        loss: LossFunction = cross_entropy,
        budget: Budget = DEFAULT_BUDGET,
        target: float | None = None,
        seed: int = 0,
    ) -> TaskOutcome:
        """Learn one more task, whose labels count from 0 to below ``classes``; if anything fails, nothing changes.

        ``target``: accuracy on ``valid`` that ends the matter once it is reached (None: a later task grows in any
        case). ``budget``: what the task may unlock and add, relative to the neurons that it uses. Raises
        ``DataError`` (``known-task``), and what training and growth raise.
        """
        require_new(self.tasks, task)
        wall, cpu = time.perf_counter(), time.process_time()
        request = TaskRequest(
            train, valid, classes, loss, budget, target, seed, self.expansion, self.settings
        )
        with seeded(seed):
            learnt = (
                train_next_task(self.union, request)
                if self.tasks
                else train_first_task(self.union, request)
            )
        union, tasks = self._merged(task, classes, learnt.draft, next(iter(train))[0])
        spent = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        right = accuracy(union.network(tasks[task].masks, tasks[task].own), valid)
        wall = time.perf_counter()
        self._keep(union, tasks)
        spent["check_seconds"] = time.perf_counter() - wall
        return task_outcome(task, classes, learnt, self.union, self.parameters, right).model_copy(
            update=spent
        )

    def _merged(
        self, task: str, classes: int, draft: TaskNetwork, example: Any
    ) -> tuple[SharedNetwork, dict[str, TaskState]]:
        """The union with a draft in it, and all tasks in it."""
        union, masks = self.union.merged(draft) if self.tasks else _as_it_is(self.union, draft)
        earlier = {
            name: state.with_masks(pad_masks(state.masks, union))
            for name, state in self.tasks.items()
        }
        reference_inputs = tuple(
            _laid_out(x[:REFERENCE_INPUTS]) if isinstance(x, Tensor) else x
            for x in positional_inputs(draft.network, example)
        )
        return union, earlier | {task: _state(task, classes, masks, union, reference_inputs)}

    def _keep(self, union: SharedNetwork, tasks: dict[str, TaskState]) -> None:
        """Go on with these, unless an earlier task's network is not what it was."""
        before = self.union, self.tasks
        self.union, self.tasks = union, tasks
        try:
            self.check()
        except BaseException:
            self.union, self.tasks = before
            raise


def _as_it_is(union: SharedNetwork, draft: TaskNetwork) -> tuple[SharedNetwork, dict[str, Tensor]]:
    """The first task's network is the whole union."""
    whole = SharedNetwork.of(draft.network, union.inputs, union.head)
    return whole, whole.full_masks


def _laid_out(reference_inputs: Tensor) -> Tensor:
    """A copy that lies as it will when it is read from disk: what is said to it has the same bits then."""
    return reference_inputs.clone(memory_format=torch.contiguous_format)


def _state(
    task: str,
    classes: int,
    masks: dict[str, Tensor],
    union: SharedNetwork,
    reference_inputs: tuple[Any, ...],
) -> TaskState:
    network = union.network(masks, {})
    held = named_tensors(network)
    own = {name: held[name].detach().clone() for name in sorted(union.private)}
    return TaskState(
        task,
        classes,
        masks,
        own,
        tensor_fingerprint(network),
        reference_inputs,
        eval_outputs(network, reference_inputs),
    )
