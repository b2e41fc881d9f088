"""What an optimizer keeps, by names of parameters: it goes on from that bit by bit.

A state dict numbers parameters instead, which a model that has grown deeper may have in another
order when it is built again.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from fxgrow.documents import limits
from fxgrow.errors import SpecError
from fxgrow.surgery import follow_ages

_ADDED = {"initial_lr", "grown_entries"}
"""Options that torch's schedulers and growth add to those of a class."""


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
    (fresh,) = optimizer.param_groups  # a run has one group of all parameters
    (group,) = values["groups"]
    _require_options(group, fresh)
    held = [_named(name, parameters) for name in group["params"]]
    if sorted(group["params"]) != sorted(parameters):
        raise SpecError("bad-value", "the optimizer does not hold each parameter once")
    groups = [{**group, "params": held}]
    state = {}
    for name, kept in values["state"].items():
        parameter = _named(name, parameters)
        state[parameter] = {key: _placed(value, parameter) for key, value in kept.items()}
    # The list and the table stay the same objects, for whoever holds them.
    optimizer.param_groups[:] = groups
    optimizer.state.clear()
    optimizer.state.update(state)
    follow_ages(optimizer)  # hooks, which nothing saves


def _require_options(group: Mapping[str, Any], fresh: Mapping[str, Any]) -> None:
    """Check that a group has the options of the run: a wrong one would fail in a step."""
    for name, value in fresh.items():
        if name not in group:
            raise SpecError("bad-value", f"an optimizer without {name}")
        given = group[name]
        # The rate falls while a run goes on; the rest stays as the settings say.
        if name == "lr":
            is_right = type(given) is float and 0 <= given <= limits.RATE
        else:
            is_right = name == "params" or (type(given) is type(value) and given == value)
        if not is_right:
            raise SpecError("bad-value", f"an optimizer with another {name}")
    extra = group.keys() - fresh.keys() - _ADDED
    if extra:
        raise SpecError("bad-value", f"an optimizer with {str(sorted(extra))[:80]}")


def _named(name: str, parameters: Mapping[str, Tensor]) -> Tensor:
    if name not in parameters:
        raise SpecError("bad-value", f"the model has no parameter {str(name)[:80]!r}")
    return parameters[name]


def _placed(value: Any, parameter: Tensor) -> Any:
    """Where the optimizer keeps it: beside the parameter, but counts of steps on the CPU."""
    if value is None:
        return None
    if not isinstance(value, Tensor):
        raise SpecError("bad-value", "the optimizer's state is no tensor")
    if value.dim() and (value.shape, value.dtype) != (parameter.shape, parameter.dtype):
        raise SpecError("bad-value", "the optimizer's state has the shape of another model")
    return value.to(parameter.device) if value.dim() else value
