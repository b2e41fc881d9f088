"""A moving average of the weights, which grows with the model.

Reference: Polyak, Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992, in the
exponential form of ``torch.optim.swa_utils``. The decay rises with the steps t, min(decay,
(1 + t) / (10 + t)), as in TensorFlow's ``ExponentialMovingAverage``: else the average of a short
run would be mostly its start.

How we differ: running statistics are averaged like weights, and buffers of whole numbers (counts,
positions) are copied, as an average of them would be rounded down.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from fxgrow.documents import Settings
from fxgrow.errors import SpecError
from fxgrow.surgery import named_tensors
from fxgrow.training.network import Network


class MovingAverage(Settings):
    """An exponential moving average of the weights (EMA), updated after every step.

    It grows along with the model, and keeps its function then. A method that inserts layers is
    refused: an average has no place for them.

    Args:
        decay: how much of the old average is kept; less in the first steps.
        publish: whether the average is what the run gives, evaluates and writes in the end; else it
            is only evaluated after every epoch.

    Raises:
        ArgumentError: ``bad-setting``: a value is out of range.

    Example:
        >>> fxgrow.training.RunSettings(ema=MovingAverage(decay=0.99))
    """

    model_config = ConfigDict(allow_inf_nan=False)

    decay: float = Field(default=0.999, ge=0, lt=1)
    publish: bool = True


def new_average(model: nn.Module, decay: float) -> AveragedModel:
    """The average of a model's weights before the first step."""
    # A copy, with tensors of its own; the first update makes it the weights of then.
    return AveragedModel(model, multi_avg_fn=_update(decay), use_buffers=True)


def _update(decay: float) -> Callable[..., None]:
    @torch.no_grad()
    def update(averages: list[Tensor], values: list[Tensor], count: Tensor) -> None:
        # Called once per dtype; ``count`` updates were done before.
        if not (averages[0].is_floating_point() or averages[0].is_complex()):
            torch._foreach_copy_(averages, values)
            return
        # In the first steps the average is mostly what came last: 2/11, 3/12, 4/13, ... are kept.
        steps = int(count)
        kept = min(decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(averages, values, 1 - kept)

    return update


def averaged_network(network: Network, average: AveragedModel) -> Network:
    """A network with the weights of the average."""
    copied = copy.deepcopy(network)  # module and graph together, which share their parameters
    _copy_tensors(named_tensors(average.module), copied.module)
    return copied


def average_values(average: AveragedModel) -> dict[str, Any]:
    """Numbers and tensors, for ``load_average``."""
    return {"count": int(average.n_averaged), "tensors": dict(named_tensors(average.module))}


def load_average(average: AveragedModel, values: Mapping[str, Any]) -> None:
    """Let an average go on from what another one was.

    Raises:
        SpecError: ``bad-value``: the values are of another model.
    """
    _copy_tensors(values["tensors"], average.module)
    average.n_averaged.fill_(values["count"])


@torch.no_grad()
def _copy_tensors(values: Mapping[str, Tensor], module: nn.Module) -> None:
    own = named_tensors(module)
    if own.keys() != values.keys():
        raise SpecError("bad-value", "the moving average is of another model")
    for name, tensor in own.items():
        if tensor.shape != values[name].shape:
            raise SpecError("bad-value", f"{name!r} of the moving average has another shape")
        tensor.data.copy_(values[name])
