"""Running statistics of batch norms, estimated from the growth batches.

Batch norm maps x to g (x - m) / sqrt(v + e) + b; in training mode m and v are the batch's own. In
evaluation mode they are running means of the past, of weights that have moved on since: a search
would spend its candidates on making up for that. ``refresh_statistics`` sets m and v of the whole
model to the mean and the unbiased variance (as torch's running one) over the growth batches.

A new channel starts at m = 0, v = 1, which is not what it sees, so the first training step after
growth would compute another function. ``estimate_statistics`` sets its m and v in the same way.
With ``preserving``, g and b make up for it, so that the function in evaluation mode stays the same:

    g' = g sqrt(v' + e) / sqrt(v + e),    b' = b + g (m' - m) / sqrt(v + e)

All batches go through the graph in lockstep, node by node: the output of a batch norm depends on
the earlier ones, so its statistics are set before it runs. One pass without gradients is exact for
networks of any depth. Where one batch norm is called several times, the mean over the calls counts.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm

from fxgrow.capture import Interpreter
from fxgrow.growth.objective import Objective
from fxgrow.ranks import ALONE, Ranks
from fxgrow.rewrite import NEW, OverGrown

_BATCH_NORM_FUNCTIONS: dict[Any, str] = {
    F.batch_norm: "input running_mean running_var weight bias training momentum eps",
    torch.ops.aten.batch_norm.default: (
        "input weight bias running_mean running_var training momentum eps"
    ),
}
"""Batch norm as a function, and the order of its arguments."""

MAX_BATCHES = 16
"""Batches that go through a graph in lockstep: their activations lie in memory together."""


@dataclass(frozen=True)
class BatchNormState:
    """The parameters and statistics of one batch norm.

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

    def move(self, mean: Tensor, var: Tensor) -> None:
        """Set the statistics; the function changes."""
        # New data, so that whoever keeps the old data (``restore_on_failure``) can put it back.
        self.running_mean.data = mean.to(self.running_mean)
        self.running_var.data = var.to(self.running_var)

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
    for node, norm in _batch_norms(overgrown.graph_module).items():
        provenance = node.meta.get("fxgrow")
        if provenance is not None and provenance.lane == NEW:
            norms[node] = norm
    return norms


def _batch_norms(graph_module: fx.GraphModule) -> dict[fx.Node, BatchNormState]:
    """All batch norms with running statistics, by their nodes."""
    norms: dict[fx.Node, BatchNormState] = {}
    for node in graph_module.graph.nodes:
        norm = _batch_norm_state(graph_module, node)
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
    _estimate(overgrown.graph_module, new_channel_norms(overgrown), objective, preserving)


def frozen_statistics(model: nn.Module) -> frozenset[int]:
    """The running means (by ``id``) of batch norms whose statistics are meant to stay.

    These are batch norms in evaluation mode inside a model in training mode, and those whose weight
    does not learn.

    Args:
        model: as its owner has it: before it is put into evaluation mode or frozen.
    """
    frozen: set[int] = set()
    for module in model.modules():
        mean, weight = getattr(module, "running_mean", None), getattr(module, "weight", None)
        is_set_aside = model.training and not module.training
        is_fixed = isinstance(weight, Tensor) and not weight.requires_grad
        if isinstance(mean, Tensor) and (is_set_aside or is_fixed):
            frozen.add(id(mean))
    return frozenset(frozen)


def all_statistics(module: nn.Module) -> frozenset[int]:
    """The running means (by ``id``) of all batch norms inside a module."""
    means = (getattr(part, "running_mean", None) for part in module.modules())
    return frozenset(id(mean) for mean in means if isinstance(mean, Tensor))


def has_statistics(graph_module: fx.GraphModule, frozen: Collection[int] = ()) -> bool:
    """Whether there are running statistics that ``refresh_statistics`` would set."""
    norms = _batch_norms(graph_module).values()
    is_plain = any(id(norm.running_mean) not in frozen for norm in norms)
    return is_plain or bool(_norms_inside(graph_module, frozen))


def refresh_statistics(
    graph_module: fx.GraphModule, objective: Objective, frozen: Collection[int] = ()
) -> None:
    """Set the running statistics of all batch norms of a model to those of the growth batches.

    Args:
        graph_module: the graph of the model, in evaluation mode; its statistics get new data.
        objective: holds the growth batches.
        frozen: from ``frozen_statistics``.
    """
    norms: dict[fx.Node, BatchNormState] = {}
    for node, norm in _batch_norms(graph_module).items():
        if id(norm.running_mean) not in frozen:
            norms[node] = norm
    inside = _norms_inside(graph_module, frozen)
    _estimate(graph_module, norms, objective, preserving=False, inside=inside)


def _norms_inside(
    graph_module: fx.GraphModule, frozen: Collection[int]
) -> dict[fx.Node, list[_BatchNorm]]:
    """The batch norms inside modules that a graph calls as a whole, by the node of the module."""
    found: dict[fx.Node, list[_BatchNorm]] = defaultdict(list)
    for node in graph_module.graph.nodes:
        if node.op != "call_module":
            continue
        called = graph_module.get_submodule(str(node.target))
        for module in called.modules():
            is_inner = isinstance(module, _BatchNorm) and module is not called
            if is_inner and module.track_running_stats and id(module.running_mean) not in frozen:
                found[node].append(module)  # type: ignore[arg-type]
    return found


@torch.no_grad()
def _estimate(
    graph_module: fx.GraphModule,
    norms: Mapping[fx.Node, BatchNormState],
    objective: Objective,
    preserving: bool,
    inside: Mapping[fx.Node, list[_BatchNorm]] = MappingProxyType({}),
) -> None:
    """Set the statistics of some batch norms while all batches go through the graph in lockstep."""
    if not norms and not inside:
        return
    calls: dict[int, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    runs = _runs(graph_module, objective)
    for node in graph_module.graph.nodes:
        if node in norms:
            norm = norms[node]
            inputs = [run.env[node.all_input_nodes[0]] for run in runs]
            count = objective.ranks.total(sum(x.numel() // x.shape[1] for x in inputs))
            if count > 1:  # the unbiased variance of a single number does not exist
                calls[id(norm.running_mean)].append(moments(inputs, objective.ranks))
                means, variances = zip(*calls[id(norm.running_mean)], strict=True)
                mean, var = torch.stack(means).mean(0), torch.stack(variances).mean(0)
                if preserving:
                    norm.rebase(mean, var)
                else:
                    norm.move(mean, var)
        if node.op != "output":
            with _cumulative(inside.get(node, ())):
                for run in runs:
                    run.advance(node)
            _average(inside.get(node, ()), objective.ranks)


def _average(norms: Collection[_BatchNorm], ranks: Ranks) -> None:
    """Give batch norms the mean over the processes of what each of them has seen."""
    statistics: list[Tensor] = []
    for norm in norms:
        kept = (norm.running_mean, norm.running_var)
        statistics += [tensor for tensor in kept if tensor is not None]
    if statistics:
        for own, total in zip(statistics, ranks.sums(statistics), strict=True):
            own.copy_(total / ranks.count)


@contextmanager
def _cumulative(norms: Collection[_BatchNorm]) -> Iterator[None]:
    """Batch norms start anew inside, and keep the mean over the batches that they see."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        for statistics in (norm.running_mean, norm.running_var, norm.num_batches_tracked):
            if statistics is not None:
                statistics.data = statistics.clone()  # who keeps the old data can put it back
        norm.reset_running_stats()
        norm.training, norm.momentum = True, None
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.training, norm.momentum = False, momentum


def _runs(graph_module: fx.GraphModule, objective: Objective) -> list["_Run"]:
    """One run per call of the model that the losses of the batches make."""
    runs = []
    for batch in objective.batches[:MAX_BATCHES]:
        for inputs in objective.inputs(batch):
            runs.append(_Run(graph_module, inputs))
    return runs


def moments(inputs: list[Tensor], ranks: Ranks = ALONE) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance per channel over several batches together.

    Args:
        inputs: one tensor per batch.
        ranks: the processes whose batches count.

    Shapes:
        inputs: each [batch, channels, ...].

    Returns:
        Mean and variance, each [channels], in float64.
    """
    other_axes = [axis for axis in range(inputs[0].dim()) if axis != 1]
    per_channel = [1, -1, *[1] * (len(other_axes) - 1)]  # broadcasts [channels] over a batch
    count = 0.0
    sums: list[Tensor] = []
    for x in inputs:
        count += x.numel() // x.shape[1]
        sums.append(x.double().sum(other_axes))
    count = ranks.total(count)
    (summed,) = ranks.sums([torch.stack(sums).sum(0)])
    mean = summed / count
    squares: list[Tensor] = []
    for x in inputs:
        deviation = x.double() - mean.reshape(per_channel)
        squares.append(deviation.square().sum(other_axes))
    (deviations,) = ranks.sums([torch.stack(squares).sum(0)])
    return mean, deviations / (count - 1)


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
        The gap; None if no batch norm keeps statistics, or if some batch has a single example, in
        any process.
    """
    norms: list[_BatchNorm] = []
    for module in model.modules():
        is_batch_norm = isinstance(module, _BatchNorm) and not isinstance(module, SyncBatchNorm)
        if is_batch_norm and module.track_running_stats:
            norms.append(module)  # type: ignore[arg-type]
    if not norms:
        return None
    # All processes have to come to the same, or some would wait for the others' losses.
    least = objective.ranks.largest(-min(objective.sizes))
    if least is None or least > -2:
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
