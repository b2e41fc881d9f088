"""What an optimizer keeps, by names of parameters: it goes on from that bit by bit.

A state dict numbers parameters instead, which a model that has grown deeper may have in another
order when it is built again.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from fxgrow.errors import SpecError
from fxgrow.surgery import follow_ages


def optimizer_values(optimizer: Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, Any]:
    """The groups and the state of an optimizer.

    Args:
        optimizer: any optimizer of torch.
        parameters: all that it holds, by name.

    Returns:
        Numbers, texts and tensors, for ``load_optimizer_values``.
    """
    names = {id(parameter): name for name, parameter in parameters.items()}
    groups = []
    for group in optimizer.param_groups:
        groups.append({**group, "params": [names[id(held)] for held in group["params"]]})
    state = {names[id(held)]: dict(kept) for held, kept in optimizer.state.items()}
    return {"groups": groups, "state": state}


def load_optimizer_values(
    optimizer: Optimizer, values: Mapping[str, Any], parameters: Mapping[str, Tensor]
) -> None:
    """Let an optimizer go on from what another one of its class has kept.

    Args:
        optimizer: changed in place.
        values: what ``optimizer_values`` gave; its tensors become the optimizer's own.
        parameters: of the model, by name.

    Raises:
        SpecError: ``bad-value``: the values are of another model, or of another optimizer.
    """
    # A group without an option of its class would fail in the middle of a step.
    expected = optimizer.param_groups[0].keys()
    groups = []
    for group in values["groups"]:
        if not expected <= group.keys():
            raise SpecError("bad-value", f"an optimizer without {sorted(expected - group.keys())}")
        held = [_named(name, parameters) for name in group["params"]]
        groups.append({**group, "params": held})
    state = {}
    for name, kept in values["state"].items():
        parameter = _named(name, parameters)
        state[parameter] = {key: _placed(value, parameter) for key, value in kept.items()}
    # The list and the table stay the same objects, for whoever holds them.
    optimizer.param_groups[:] = groups
    optimizer.state.clear()
    optimizer.state.update(state)
    follow_ages(optimizer)  # hooks, which nothing saves


def _named(name: str, parameters: Mapping[str, Tensor]) -> Tensor:
    if name not in parameters:
        raise SpecError("bad-value", f"the model has no parameter {str(name)[:80]!r}")
    return parameters[name]


def _placed(value: Any, parameter: Tensor) -> Any:
    """Where the optimizer keeps it: beside the parameter, but counts of steps on the CPU."""
    if not isinstance(value, Tensor):
        return value
    if value.dim() and value.shape != parameter.shape:
        raise SpecError("bad-value", "the optimizer's state has the shape of another model")
    return value.to(parameter.device) if value.dim() else value
