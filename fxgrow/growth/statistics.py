"""Running statistics of fresh channels, estimated from the growth batches, so that training goes on without a jump.

Batch norm maps x to g (x - m) / sqrt(v + e) + b; in training mode m and v are the batch's own. A fresh channel starts
at m = 0, v = 1, which is not what it sees: the first training step after growth would compute another function.
``estimate`` sets m and v to the mean and the unbiased variance (torch's running one) over all growth batches; with
``preserving`` g and b make up for it, so that the function in evaluation mode stays the same:

    g' = g sqrt(v' + e) / sqrt(v + e),    b' = b + g (m' - m) / sqrt(v + e)

All batches go through the over-grown graph in lockstep, node by node: what a batch norm says depends on the earlier
ones, so its statistics are set before it runs. One pass without gradients is exact for networks of any depth.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm

from fxgrow.growth.objective import Batch, Objective
from fxgrow.rewrite import NEW, OverGrown

_BATCH_NORM_FUNCTIONS: dict[Any, tuple[str, ...]] = {
    F.batch_norm: ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    torch.ops.aten.batch_norm.default: (
        "input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps",
    ),
}  # fmt: skip
"""Batch norm as a function, and the order of its arguments."""


@dataclass(frozen=True)
class BatchNormState:
    """The batch norm of the fresh channels of one width; ``weight`` and ``bias`` are None if it has none."""

    running_mean: Tensor
    running_var: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float

    @torch.no_grad()
    def move(self, mean: Tensor, var: Tensor) -> None:
        """Set the statistics; the function changes."""
        self.running_mean.copy_(mean)
        self.running_var.copy_(var)

    @torch.no_grad()
    def rebase(self, mean: Tensor, var: Tensor) -> None:
        """Set the statistics and let weight and bias make up for it. Without both it does nothing."""
        if self.weight is None or self.bias is None:
            return
        slope = self.weight.double() / (self.running_var.double() + self.eps).sqrt()
        self.bias.copy_(self.bias.double() + slope * (mean - self.running_mean.double()))
        self.weight.copy_(slope * (var + self.eps).sqrt())
        self.move(mean, var)


def new_channel_norms(grown: OverGrown) -> dict[fx.Node, BatchNormState]:
    """The batch norms that only fresh channels pass, by their nodes in the over-grown graph."""
    found = {}
    for node in grown.graph_module.graph.nodes:
        mark = node.meta.get("fxgrow")
        if mark is not None and mark.lane == NEW and (norm := _norm(grown.graph_module, node)):
            found[node] = norm
    return found


def estimate_statistics(grown: OverGrown, objective: Objective, preserving: bool = False) -> None:
    """Set the running statistics of all fresh channels to what they see on the growth batches.

    ``preserving``: without changing the function; batch norms that have no weight and bias then stay as they are.
    """
    norms = new_channel_norms(grown)
    if not norms:
        return
    runs = [_Run(grown.graph_module, batch) for batch in objective.batches]
    for node in grown.graph_module.graph.nodes:
        if node in norms:
            seen = [run.env[node.all_input_nodes[0]] for run in runs]
            if sum(x.numel() // x.shape[1] for x in seen) > 1:
                (norms[node].rebase if preserving else norms[node].move)(*moments(seen))
        if node.op != "output":
            for run in runs:
                run.advance(node)


def moments(seen: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance per channel (axis 1) of several batches together, in float64."""
    counts = [x.numel() // x.shape[1] for x in seen]
    axes = [axis for axis in range(seen[0].dim()) if axis != 1]
    mean = torch.stack([x.double().sum(axes) for x in seen]).sum(0) / sum(counts)
    shape = [1, -1, *[1] * (len(axes) - 1)]
    squares = torch.stack(
        [(x.double() - mean.reshape(shape)).square().sum(axes) for x in seen]
    ).sum(0)
    return mean, squares / (sum(counts) - 1)


class _Run(fx.Interpreter):
    """One batch on its way through the graph, in evaluation mode and without gradients."""

    def __init__(self, module: fx.GraphModule, batch: Batch) -> None:
        super().__init__(module)
        inputs = batch[0] if isinstance(batch[0], tuple) else (batch[0],)
        self.args_iter = iter(self.graph.process_inputs(*inputs))

    @torch.no_grad()
    def advance(self, node: fx.Node) -> None:
        """Run one node and drop what nobody needs any more."""
        self.env[node] = self.run_node(node)
        for done in self.user_to_last_uses.get(node, []):
            del self.env[done]


def _norm(root: fx.GraphModule, node: fx.Node) -> BatchNormState | None:
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        if (
            not isinstance(module, _BatchNorm)
            or module.running_mean is None
            or module.running_var is None
        ):
            return None
        return BatchNormState(
            module.running_mean, module.running_var, module.weight, module.bias, module.eps
        )
    if node.op != "call_function" or node.target not in _BATCH_NORM_FUNCTIONS:
        return None
    given = dict(zip(_BATCH_NORM_FUNCTIONS[node.target], node.args, strict=False)) | dict(
        node.kwargs
    )
    tensors = [
        _held(root, given.get(name)) for name in ("running_mean", "running_var", "weight", "bias")
    ]
    if tensors[0] is None or tensors[1] is None:
        return None
    eps: Any = given.get("eps", 1e-5)
    return BatchNormState(tensors[0], tensors[1], tensors[2], tensors[3], float(eps))


def _held(root: fx.GraphModule, argument: Any) -> Tensor | None:
    """The parameter or buffer that an argument names."""
    if not isinstance(argument, fx.Node) or argument.op != "get_attr":
        return None
    owner, _, leaf = str(argument.target).rpartition(".")
    return getattr(root.get_submodule(owner), leaf)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class BatchNormGap:
    """The loss on the growth batches with each batch's own statistics less that with running ones: ``gap``.

    The next training step takes the batch's own; what growth adds to the jump is ``after - before``.
    """

    before: float
    after: float

    @staticmethod
    def of(before: float | None, after: float | None) -> "BatchNormGap | None":
        """Both gaps, or None where there is no such thing."""
        return None if before is None or after is None else BatchNormGap(before, after)


def batch_statistics_gap(model: nn.Module, objective: Objective, running: float) -> float | None:
    """Loss with each batch's own statistics less ``running``, the loss in evaluation mode, which the model is in.

    None if no batch norm keeps statistics, or if some batch has a single example.
    """
    norms = [
        m for m in model.modules() if isinstance(m, _BatchNorm) and not isinstance(m, SyncBatchNorm)
    ]
    kept = [norm for norm in norms if norm.track_running_stats]
    if not kept or min(len(target) for _, target in objective.batches) < 2:
        return None
    with _own_statistics(kept):
        return objective.mean(model) - running


@contextmanager
def _own_statistics(norms: list[_BatchNorm]) -> Iterator[None]:
    """Batch norms that use a batch's own statistics and keep none of them."""
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for norm in norms:
            norm.training, norm.track_running_stats = False, True
