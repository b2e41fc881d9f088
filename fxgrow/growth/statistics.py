"""Running statistics of new channels, estimated from the growth batches.

Batch norm maps x to g (x - m) / sqrt(v + e) + b; in training mode m and v are the batch's own. A
new channel starts at m = 0, v = 1, which is not what it sees, so the first training step after
growth would compute another function. ``estimate_statistics`` sets m and v to the mean and the
unbiased variance (as torch's running one) over all growth batches. With ``preserving``, g and b
make up for it, so that the function in evaluation mode stays the same:

    g' = g sqrt(v' + e) / sqrt(v + e),    b' = b + g (m' - m) / sqrt(v + e)

All batches go through the over-grown graph in lockstep, node by node: the output of a batch norm
depends on the earlier ones, so its statistics are set before it runs. One pass without gradients is
exact for networks of any depth.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm

from fxgrow.capture import Interpreter
from fxgrow.growth.objective import Objective
from fxgrow.rewrite import NEW, OverGrown

_BATCH_NORM_FUNCTIONS: dict[Any, str] = {
    F.batch_norm: "input running_mean running_var weight bias training momentum eps",
    torch.ops.aten.batch_norm.default: (
        "input weight bias running_mean running_var training momentum eps"
    ),
}
"""Batch norm as a function, and the order of its arguments."""


@dataclass(frozen=True)
class BatchNormState:
    """The batch norm of the new channels of one width.

    Args:
        running_mean: m.
        running_var: v.
        weight: g; None if the batch norm has none.
        bias: b; None if the batch norm has none.
        eps: e.
    """

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
        """Set the statistics and let weight and bias make up for it.

        Without both it does nothing.
        """
        if self.weight is None or self.bias is None:
            return
        slope = self.weight.double() / (self.running_var.double() + self.eps).sqrt()
        self.bias.copy_(self.bias.double() + slope * (mean - self.running_mean.double()))
        self.weight.copy_(slope * (var + self.eps).sqrt())
        self.move(mean, var)


def new_channel_norms(overgrown: OverGrown) -> dict[fx.Node, BatchNormState]:
    """The batch norms that only new channels pass, by their nodes in the over-grown graph."""
    norms: dict[fx.Node, BatchNormState] = {}
    for node in overgrown.graph_module.graph.nodes:
        provenance = node.meta.get("fxgrow")
        if provenance is not None and provenance.lane == NEW:
            norm = _batch_norm_state(overgrown.graph_module, node)
            if norm is not None:
                norms[node] = norm
    return norms


def estimate_statistics(
    overgrown: OverGrown, objective: Objective, preserving: bool = False
) -> None:
    """Set the running statistics of all new channels to those of the growth batches.

    Args:
        overgrown: the graph; its batch norms of new channels are changed in place.
        objective: holds the growth batches.
        preserving: keep the function. Batch norms without weight and bias then stay as they are.
    """
    norms = new_channel_norms(overgrown)
    if not norms:
        return
    runs = _runs(overgrown, objective)
    for node in overgrown.graph_module.graph.nodes:
        if node in norms:
            inputs = [run.env[node.all_input_nodes[0]] for run in runs]
            # The unbiased variance of a single number does not exist.
            if sum(x.numel() // x.shape[1] for x in inputs) > 1:
                mean, var = moments(inputs)
                if preserving:
                    norms[node].rebase(mean, var)
                else:
                    norms[node].move(mean, var)
        if node.op != "output":
            for run in runs:
                run.advance(node)


def _runs(overgrown: OverGrown, objective: Objective) -> list["_Run"]:
    """One run per call of the model that the losses of all batches make."""
    runs = []
    for batch in objective.batches:
        for inputs in objective.inputs(batch):
            runs.append(_Run(overgrown.graph_module, inputs))
    return runs


def moments(inputs: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance per channel over several batches together.

    Args:
        inputs: one tensor per batch.

    Shapes:
        inputs: each [batch, channels, ...].

    Returns:
        Mean and variance, each [channels], in float64.
    """
    other_axes = [axis for axis in range(inputs[0].dim()) if axis != 1]
    per_channel = [1, -1, *[1] * (len(other_axes) - 1)]  # broadcasts [channels] over a batch
    count = 0
    sums: list[Tensor] = []
    for x in inputs:
        count += x.numel() // x.shape[1]
        sums.append(x.double().sum(other_axes))
    mean = torch.stack(sums).sum(0) / count
    squares: list[Tensor] = []
    for x in inputs:
        deviation = x.double() - mean.reshape(per_channel)
        squares.append(deviation.square().sum(other_axes))
    return mean, torch.stack(squares).sum(0) / (count - 1)


class _Run(Interpreter):
    """One batch on its way through the graph, in evaluation mode and without gradients."""

    def __init__(self, module: fx.GraphModule, inputs: tuple[Any, ...]) -> None:
        super().__init__(module)
        self.args_iter = iter(self.graph.process_inputs(*inputs))

    @torch.no_grad()
    def advance(self, node: fx.Node) -> None:
        """Run one node and drop what nobody needs any more."""
        self.env[node] = self.run_node(node)
        for done in self.user_to_last_uses.get(node, []):
            del self.env[done]


def _batch_norm_state(root: fx.GraphModule, node: fx.Node) -> BatchNormState | None:
    """The state of a node that is a batch norm with running statistics; else None."""
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        if not isinstance(module, _BatchNorm):
            return None
        if module.running_mean is None or module.running_var is None:
            return None
        return BatchNormState(
            module.running_mean, module.running_var, module.weight, module.bias, module.eps
        )
    if node.op != "call_function" or node.target not in _BATCH_NORM_FUNCTIONS:
        return None
    names = _BATCH_NORM_FUNCTIONS[node.target].split()
    arguments = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    mean = _tensor(root, arguments.get("running_mean"))
    var = _tensor(root, arguments.get("running_var"))
    if mean is None or var is None:
        return None
    weight, bias = _tensor(root, arguments.get("weight")), _tensor(root, arguments.get("bias"))
    eps: Any = arguments.get("eps", 1e-5)
    return BatchNormState(mean, var, weight, bias, float(eps))


def _tensor(root: fx.GraphModule, argument: Any) -> Tensor | None:
    """The parameter or buffer that an argument names."""
    if not isinstance(argument, fx.Node) or argument.op != "get_attr":
        return None
    owner, _, leaf = str(argument.target).rpartition(".")
    return getattr(root.get_submodule(owner), leaf)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class BatchNormGap:
    """How far batch statistics move the loss: the jump that the next training step makes.

    The gap is the loss on the growth batches with each batch's own statistics less that with
    running ones. What growth adds to it is ``after - before``.

    Args:
        before: the gap of the model before.
        after: the gap of the grown model.
    """

    before: float
    after: float

    @staticmethod
    def of(before: float | None, after: float | None) -> "BatchNormGap | None":
        """Both gaps, or None where there is no such thing."""
        if before is None or after is None:
            return None
        return BatchNormGap(before, after)


def batch_statistics_gap(
    model: nn.Module, objective: Objective, running_loss: float
) -> float | None:
    """The loss with each batch's own statistics less the loss with running statistics.

    Args:
        model: in evaluation mode.
        objective: the loss on the growth batches.
        running_loss: the loss with running statistics.

    Returns:
        The gap; None if no batch norm keeps statistics, or if some batch has a single example.
    """
    norms: list[_BatchNorm] = []
    for module in model.modules():
        is_batch_norm = isinstance(module, _BatchNorm) and not isinstance(module, SyncBatchNorm)
        if is_batch_norm and module.track_running_stats:
            norms.append(module)  # type: ignore[arg-type]
    if not norms or min(objective.sizes) < 2:
        return None
    with _own_statistics(norms):
        return objective.mean(model) - running_loss


@contextmanager
def _own_statistics(norms: list[_BatchNorm]) -> Iterator[None]:
    """Batch norms use a batch's own statistics inside, and keep none of them."""
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for norm in norms:
            norm.training, norm.track_running_stats = False, True
