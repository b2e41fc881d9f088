"""From a run between two of its steps to a checkpoint, and back.

The model is built again as it came to be: the network that the run started from grows as its
history says (``growth.regrow``), and the weights are put into it. So it is of the caller's class,
not a graph, and no code is read from a file.
"""

import copy
import hashlib
import json
import platform
import warnings
from dataclasses import replace
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from fxgrow.data import DataSet, Splits
from fxgrow.documents import CONFIG, encode_tree
from fxgrow.errors import RecoveryWarning, RunError, SpecError
from fxgrow.growth import regrow
from fxgrow.randomness import random_states, set_random_states
from fxgrow.surgery import named_tensors
from fxgrow.training.average import average_values, load_average, new_average
from fxgrow.training.checkpoint import (
    CHECKPOINT_VERSION,
    STATE,
    TENSORS,
    Checkpoint,
    CheckpointState,
)
from fxgrow.training.network import Network, capture_network
from fxgrow.training.optimizer_values import load_optimizer_values, optimizer_values
from fxgrow.training.run_state import RunState
from fxgrow.version import __version__

# What values raise that are not what their names say: they were checked field by field only.
_WRONG_VALUES = (LookupError, TypeError, ValueError, AttributeError, RuntimeError)


def request_digest(state: RunState, initial: Network) -> str:
    """What a run was asked for, and of which network and data, as a SHA-256.

    Args:
        state: at the start of the run.
        initial: the network before it.
    """
    request = state.request
    method = request.method
    parts = {
        "settings": state.settings.model_dump(mode="json"),
        "method": [type(method).__qualname__, _settings(method)],
        "budget": request.budget.model_dump(mode="json"),
        "scope": request.scope.model_dump(mode="json"),
        "network": initial.spec.fingerprint,
        "data": _data_digest(state.data),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _settings(method: object) -> object:
    return method.model_dump(mode="json") if isinstance(method, BaseModel) else None


def _data_digest(data: Splits) -> str:
    found = hashlib.sha256()
    for part in (data.train, data.test):
        _add(found, part)
    return found.hexdigest()


def _add(found: "hashlib._Hash", part: DataSet) -> None:
    for tensor in (part.images, part.labels):
        # The shape too: the same bytes make other images in another one.
        found.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        # Without a copy of the whole set, where it is on the CPU.
        content: Any = tensor.detach().cpu().contiguous().numpy()
        found.update(memoryview(content).cast("B"))


def checkpoint_of(state: RunState, request: str) -> Checkpoint:
    """A checkpoint of a run.

    Args:
        state: the run, between two of its steps.
        request: what ``request_digest`` gave.

    Returns:
        The checkpoint. Its tensors are those of the run, so it is to be written at once.
    """
    module = state.network.module
    tensors = {f"model.{name}": tensor for name, tensor in named_tensors(module).items()}
    parameters = dict(module.named_parameters())
    kept = {
        "optimizer": optimizer_values(state.optimizer, parameters),
        "random": random_states(),
        "shuffle": state.shuffling.get_state(),
        "growth": state.growth_rng.get_state(),
        "scaler": state.precision.scaler.state_dict(),
        "average": None if state.average is None else average_values(state.average),
    }
    values = encode_tree(kept, tensors, "value")
    frozen = [name for name, parameter in parameters.items() if not parameter.requires_grad]
    numbers = CheckpointState(
        schema_version=CHECKPOINT_VERSION,
        request=request,
        seconds=state.seconds,
        undecided=state.undecided,
        history=state.history,
        before=state.before,
        records=state.records,
        frozen=tuple(frozen),
        values=values,
        versions=_versions(),
    )
    return Checkpoint(numbers, state.network.spec, tensors)


def _versions() -> dict[str, str]:
    """What must be the same for the same bits."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "fxgrow": __version__,
    }


def _tell_of_other_versions(kept: dict[str, str]) -> None:
    """Warn where a run goes on with other packages than it was begun with."""
    now = _versions()
    others = [name for name in now if kept.get(name) != now[name]]
    if others:
        changed = ", ".join(f"{name} {now[name]} instead of {kept.get(name)}" for name in others)
        warnings.warn(
            f"the run goes on with {changed}: its numbers may differ in the last digits from "
            "those of a run that was not stopped",
            RecoveryWarning,
            stacklevel=2,
        )


def network_at(network: Network, checkpoint: Checkpoint) -> Network:
    """A copy of a network with the weights of a checkpoint of the same architecture.

    Raises:
        SpecError: ``tensor-mismatch``: it is of another architecture.
    """
    copied = copy.deepcopy(network)
    _load_weights(copied.module, checkpoint)
    return copied


def restored(state: RunState, checkpoint: Checkpoint, request: str) -> RunState:
    """Let a run go on from a checkpoint.

    Args:
        state: at the start of the run; its network is changed.
        checkpoint: of the same run.
        request: what ``request_digest`` gave for the run.

    Returns:
        The run as it was when the checkpoint was made.

    Raises:
        RunError: ``other-run``: the checkpoint is of a run with other settings, data or network.
        SpecError: the checkpoint holds what no run has written.
    """
    numbers = checkpoint.state
    if numbers.request != request:
        raise RunError(
            "other-run",
            "the checkpoint is of a run with other settings, data or network, so it cannot go on; "
            "give the same ones, or start anew",
        )
    planned = (state.settings.epochs, state.settings.grow_steps)
    if (numbers.history.epochs, numbers.history.grow_steps) != planned:
        raise SpecError(
            "bad-value", "the checkpoint holds another number of epochs; start anew", "history"
        )
    _tell_of_other_versions(numbers.versions)
    network, ema = _regrown(state, checkpoint), state.settings.ema
    average = None if ema is None else new_average(network.module, ema.decay)
    state = replace(
        state.with_network(network, average),
        history=numbers.history,
        before=numbers.before,
        records=numbers.records,
        seconds=numbers.seconds,
        undecided=numbers.undecided,
    )
    try:
        values = checkpoint.values
        parameters = dict(network.module.named_parameters())
        load_optimizer_values(state.optimizer, values["optimizer"], parameters)
        state.shuffling.set_state(values["shuffle"])
        state.growth_rng.set_state(values["growth"])
        state.precision.scaler.load_state_dict(values["scaler"])
        if average is not None:
            load_average(average, values["average"])
        set_random_states(values["random"])
    except (SpecError, *_WRONG_VALUES) as error:
        raise SpecError(
            error.code if isinstance(error, SpecError) else "bad-value",
            f"the checkpoint holds what no run has written ({error}); start anew",
            f"{STATE}, values",
        ) from error
    return state


def _regrown(state: RunState, checkpoint: Checkpoint) -> Network:
    """The network of a checkpoint, which grows out of the one that the run started from."""
    # Of a model that had grown before the run, only the steps of the run are repeated.
    start, spec = state.network, checkpoint.spec
    inputs = state.request.example_inputs
    steps = spec.history[len(start.spec.history) :]
    module = regrow(start.module, inputs, steps)
    _load_weights(module, checkpoint)
    # Layers that are inserted again do not learn yet.
    frozen = set(checkpoint.state.frozen)
    for name in sorted(frozen - dict(module.named_parameters()).keys()):
        raise SpecError(
            "missing-tensor",
            f"{name[:80]!r} does not learn, and is no parameter; start anew",
            f"{STATE}, frozen",
        )
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in frozen)
    network = capture_network(module, inputs, spec.history)
    if network.spec.fingerprint != spec.fingerprint:
        raise SpecError(
            "weights-mismatch",
            "the network grew into another one than it was; start the run anew",
            CONFIG,
        )
    return replace(network, spec=spec)


@torch.no_grad()
def _load_weights(module: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy the weights of a checkpoint into a module; its tensors stay the same objects."""
    weights, tensors = checkpoint.weights, named_tensors(module)
    for name in sorted(weights.keys() ^ tensors.keys()):
        raise SpecError(
            "missing-tensor",
            f"{name[:80]!r} is in only one of network and checkpoint; start anew",
            TENSORS,
        )
    for name, tensor in tensors.items():
        if not _alike(tensor, weights[name]):
            raise SpecError(
                "tensor-mismatch", f"{name[:80]!r} has another shape or type; start anew", TENSORS
            )
        tensor.data.copy_(weights[name])


def _alike(one: Tensor, other: Tensor) -> bool:
    return (one.shape, one.dtype) == (other.shape, other.dtype)
