"""Norms in the over-grown graph: old neurons and candidates side by side, of which the old count.

A stream of d neurons x has candidates n beside it (``coupling.norm_rules``). With

    RMS norm:    r = 1 / sqrt((sum x^2 + sum n^2) / d + eps),   y = gamma x r,   y_n = gamma_n n r

a grown model computes the same, whatever number of candidates it gets, if its old and new neurons
are sqrt(d' / d) times as large: so nothing here has to be multiplied. Under layer norm a new neuron
is the mean of the old ones and what it is beyond that, n, which is all that a lane carries:

    c = sum n / (d + k),    v = (sum (x - mean(x) - c)^2 + sum (n - c)^2) / d,
    y = gamma (x - mean(x) - c) / sqrt(v + eps) + beta,    y_n = gamma_n (n - c) / sqrt(v + eps)

k counts the candidates that are on, or selected; those that are off have n = 0, and give 0. Behind
a norm a lane carries the neurons themselves.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from fxgrow.coupling import Fill, SiteRule
from fxgrow.errors import Refusal
from fxgrow.rewrite.constants import is_pointwise
from fxgrow.rewrite.context import RewriteContext
from fxgrow.rewrite.lanes import NEW, PLUS, Lanes, pick_lane
from fxgrow.rewrite.linear_op import LinearForm, LinearOp
from fxgrow.rewrite.operators import aten
from fxgrow.rewrite.overgrown_layer import CandidateBlocks, OvergrownLayer
from fxgrow.rewrite.rewriter import Provenance
from fxgrow.rewrite.rule import no_rewrite

_SELECTED = "fxgrow_candidates.is_selected"


class OvergrownNorm(nn.Module):
    """A layer norm or RMS norm over old neurons and the candidates beside them.

    Args:
        eps: the norm's own; None: torch's, which depends on the dtype.
        is_centered: whether it subtracts the mean.
        places: those of the candidates in ``new_eps``.
    """

    def __init__(self, eps: float | None, is_centered: bool, places: slice) -> None:
        super().__init__()
        self.eps = eps
        self.is_centered = is_centered
        self.places = places

    def forward(
        self,
        x: Tensor,
        lane: Tensor,
        new_eps: Tensor,
        is_selected: Tensor,
        gains: tuple[Tensor | None, Tensor | None],
        shifts: tuple[Tensor | None, Tensor | None],
    ) -> tuple[Tensor, Tensor]:
        """Normalize.

        Args:
            x: the old neurons, along the last dimension.
            lane: the candidates.
            new_eps: the eps of all candidates.
            is_selected: which of them were selected.
            gains: of both, None for 1.
            shifts: of both, None for 0.
        """
        eps = torch.finfo(x.dtype).eps if self.eps is None else self.eps
        dtype = torch.promote_types(x.dtype, torch.float32)  # as torch's own norms compute
        old, new, size = x.to(dtype), lane.to(dtype), x.shape[-1]
        if self.is_centered:
            is_on = (new_eps[self.places] != 0) | is_selected[self.places]
            shift = new.sum(-1, keepdim=True) / (size + is_on.sum())
            old = old - (old.mean(-1, keepdim=True) + shift)
            # What is off gives 0, and still has a gradient.
            new = new - shift * is_on
        squares = old.square().sum(-1, keepdim=True) + new.square().sum(-1, keepdim=True)
        scale = torch.rsqrt(squares / size + eps)
        both = []
        for value, gain, added in zip((old, new), gains, shifts, strict=True):
            result = (value * scale).to(x.dtype)
            result = result if gain is None else result * gain
            both.append(result if added is None else result + added)
        return both[0], both[1]


def with_lane(mean: Tensor, lane: Tensor, dim: Any, size: int) -> Tensor:
    """The mean of squares over old neurons, with the squares of candidates added to their sum.

    Args:
        mean: over the old neurons.
        lane: the squares of the candidates.
        dim: the dimension of the mean, which is kept.
        size: how many old neurons there are.
    """
    return mean + lane.sum(dim, keepdim=True) / size


@dataclass(frozen=True)
class _NormCall:
    """The arguments of a norm's call by their meaning; gain and shift of a module are its own."""

    input: Any
    eps: float | None
    is_centered: bool
    gain: Any = None
    shift: Any = None
    module: nn.Module | None = None


def _layer_norm(
    input: Any,  # noqa: A002
    normalized_shape: Any,  # noqa: ARG001 - the neurons along the last dimension
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,  # noqa: ARG001
) -> _NormCall:
    return _NormCall(input, eps, is_centered=True, gain=weight, shift=bias)


def _rms_norm(
    input: Any,  # noqa: A002
    normalized_shape: Any,  # noqa: ARG001
    weight: Any = None,
    eps: float | None = None,
) -> _NormCall:
    return _NormCall(input, eps, is_centered=False, gain=weight)


_FUNCTIONS: dict[Any, Callable[..., _NormCall]] = {
    **dict.fromkeys((F.layer_norm, torch.layer_norm, aten.layer_norm.default), _layer_norm),
    **dict.fromkeys((F.rms_norm, torch.rms_norm, aten.rms_norm.default), _rms_norm),
}
_MODULES: dict[type[nn.Module], bool] = {nn.LayerNorm: True, nn.RMSNorm: False}
"""Norms by type, and whether they are centered."""

_MEANS = (torch.mean, "mean", aten.mean.dim)


def _norm_call(root: nn.Module, node: fx.Node) -> _NormCall | None:
    if node.op == "call_function" and node.target in _FUNCTIONS:
        return _FUNCTIONS[node.target](*node.args, **node.kwargs)
    if node.op != "call_module":
        return None
    module: Any = root.get_submodule(str(node.target))
    if type(module) not in _MODULES or len(node.args) != 1:
        return None
    return _NormCall(node.args[0], module.eps, _MODULES[type(module)], module=module)


def _width_along(context: RewriteContext, x: Any, dim: int) -> int | None:
    """The width under norms whose neurons lie along a dimension of a value; None if none does."""
    if not isinstance(x, fx.Node) or x.name not in context.coupling.shapes:
        return None
    shape = context.coupling.shapes[x.name]
    if not shape.size:
        return None
    carried = context.coupling.carries.get(x.name, frozenset())
    for width in sorted(carried & context.coupling.under_norms.keys()):
        is_along = dim % len(shape.size) in shape.dims
        if is_along and shape.size[dim] == context.coupling.widths[width].size:
            return width
    return None


def _copied(context: RewriteContext, node: fx.Node) -> fx.Node:
    return context.rewriter.copy(node, pick_lane(context.env, lambda lanes: lanes.plus))


class NormalizationRule:
    """A layer norm or RMS norm over a width under norms: old neurons and candidates together."""

    def match(self, context: RewriteContext, node: fx.Node) -> bool:
        call = _norm_call(context.old, node)
        return call is not None and _width_along(context, call.input, -1) is not None

    def check(self, context: RewriteContext, node: fx.Node) -> Refusal | None:
        return None

    def rewrite(self, context: RewriteContext, node: fx.Node) -> Lanes:
        call = _norm_call(context.old, node)
        width = None if call is None else _width_along(context, call.input, -1)
        if call is None or width is None or width not in context.env[call.input].new:
            return Lanes(_copied(context, node))
        lanes, places = context.env[call.input], context.candidates.new[width]
        norm = OvergrownNorm(call.eps, call.is_centered, places)
        target = context.insert(("norm", node.name, width), f"{node.name}_norm", norm)
        provenance = Provenance("norm", context.coupling.widths[width].name)
        selected = context.rewriter.get_attr(_SELECTED, provenance)
        gains = self._both(context, node, call, "weight", width)
        shifts = self._both(context, node, call, "bias", width)
        args = (lanes.plus, lanes.new[width], context.eps_nodes[1], selected, gains, shifts)
        both = context.rewriter.call_module(target, args, node.name, provenance)
        call_function, name = context.rewriter.call_function, provenance.width
        plus = call_function(operator.getitem, (both, 0), Provenance("norm", name, PLUS))
        new = call_function(operator.getitem, (both, 1), Provenance("norm", name, NEW))
        return Lanes(plus, None, {width: new})

    def _both(
        self, context: RewriteContext, node: fx.Node, call: _NormCall, kind: str, width: int
    ) -> tuple[fx.Node | None, fx.Node | None]:
        """The gain or shift of the old neurons, and that of the candidates."""
        if call.module is None:
            argument = call.gain if kind == "weight" else call.shift
            if argument is None:
                return None, None
            lanes = context.env[argument]
            return lanes.plus, lanes.lane(width)
        tensor = getattr(call.module, kind, None)
        if tensor is None:
            return None, None
        provenance = Provenance("norm", context.coupling.widths[width].name)
        own = context.rewriter.get_attr(f"{node.target}.{kind}", provenance)
        carrier = context.carrier(context.names[id(tensor)], 0, tensor, width)
        return own, context.rewriter.get_attr(carrier, provenance)


def refusals_of_hidden_norms(context: RewriteContext, node: fx.Node) -> dict[int, Refusal]:
    """The widths that a node normalizes where no rule sees how: inside a part that was not traced.

    Args:
        context: the graph to be rewritten.
        node: a node of it.

    Returns:
        A refusal for each of them.
    """
    normalized = [w for w, nodes in context.coupling.norm_nodes.items() if node.name in nodes]
    # A norm that is written out ends in a product.
    is_seen = node.op != "call_module" and is_pointwise(node.target)
    if not normalized or is_seen or NormalizationRule().match(context, node):
        return {}
    reason = f"{node.target} normalizes it, and is no norm of torch and was not traced"
    return dict.fromkeys(normalized, no_rewrite(node, reason))


class MeanSquareRule:
    """The mean of squares of an RMS norm that is written out: candidates add to the sum."""

    def match(self, context: RewriteContext, node: fx.Node) -> bool:
        return self._width(context, node) is not None

    def check(self, context: RewriteContext, node: fx.Node) -> Refusal | None:
        return None

    def rewrite(self, context: RewriteContext, node: fx.Node) -> Lanes:
        plus, width = _copied(context, node), self._width(context, node)
        squares = context.env[node.all_input_nodes[0]]
        if width is None or width not in squares.new:
            return Lanes(plus)
        size = context.coupling.widths[width].size
        args = (plus, squares.new[width], self._dim(node), size)
        provenance = Provenance("norm", context.coupling.widths[width].name)
        return Lanes(context.rewriter.call_function(with_lane, args, provenance))

    def _dim(self, node: fx.Node) -> int | None:
        """The dimension of the mean, if it is one."""
        dim: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        if isinstance(dim, (list, tuple)) and len(dim) == 1:
            dim = dim[0]
        return dim if isinstance(dim, int) else None

    def _width(self, context: RewriteContext, node: fx.Node) -> int | None:
        if node.target not in _MEANS or len(node.all_input_nodes) != 1:
            return None
        dim = self._dim(node)
        # Behind the mean its neurons are gone, so it was over them.
        width = None if dim is None else _width_along(context, node.all_input_nodes[0], dim)
        return None if width in context.coupling.carries.get(node.name, ()) else width


class TiedReader(nn.Module):
    """What a weight that also writes a width under norms reads of its candidates.

    A tied embedding has one column for a new neuron, which writes it before the first norm and
    reads it behind the last.

    Args:
        layer: the layer that writes with this weight.
        number: which of its ``rows``.
        form: how the weight reads.
        is_beyond_mean: whether its rows are what new neurons are beyond the mean of the old ones.
    """

    def __init__(
        self, layer: OvergrownLayer, number: int, form: LinearForm, is_beyond_mean: bool
    ) -> None:
        super().__init__()
        self._layers = (layer,)  # a part of the graph, not of this module
        self.number = number
        self.form = form
        self.is_beyond_mean = is_beyond_mean

    def forward(self, base: Tensor, lane: Tensor, blocks: CandidateBlocks) -> Tensor:
        """Add to what is read of the old neurons what is read of the candidates."""
        (layer,) = self._layers
        rows = layer.new_weight_rows(self.number, blocks)  # [new, words]
        if self.is_beyond_mean:
            rows = rows + layer.base().weight.detach().mean(0)
        return base + self.form(lane, rows.t(), None)


class TiedReaderRule:
    """A weight that reads a width under norms, and writes it elsewhere."""

    def match(self, context: RewriteContext, node: fx.Node) -> bool:
        use = context.linear_uses.get(node)
        return use is not None and self._writer(context, use.product) is not None

    def check(self, context: RewriteContext, node: fx.Node) -> Refusal | None:
        product = context.linear_uses[node].product
        axes = {product.rows, product.columns}
        if product.is_computed or product.form.row_dim != -1 or axes != {0, 1}:
            reason = f"{product.weight} writes the width and reads it as no matrix"
            return no_rewrite(node, reason)
        written = context.widths_of(product.weight, product.rows)
        if any(context.coupling.widths[width].growable for width in written):
            reason = f"{product.weight} reads one width and writes another, and is tied"
            return no_rewrite(node, reason)
        return None

    def rewrite(self, context: RewriteContext, node: fx.Node) -> Lanes:
        use, plus = context.linear_uses[node], _copied(context, node)
        writer, lanes = self._writer(context, use.product), context.env[use.input]
        target = None if writer is None else context.targets.get(writer.names)
        if target is None:  # nothing that it writes has candidates
            return Lanes(plus)
        layer = context.layers[target]
        for number, slots in enumerate(layer.rows):
            if slots.width in lanes.new:
                rule = _rule_of_columns(context, use.product)
                is_beyond_mean = rule is not None and rule.fill is Fill.MEAN
                reader = TiedReader(layer, number, use.product.form, is_beyond_mean)
                own = context.insert(("tied", node.name, slots.width), f"{node.name}_tied", reader)
                provenance = Provenance("norm", context.coupling.widths[slots.width].name)
                args = (plus, lanes.new[slots.width], context.blocks_of(target))
                plus = context.rewriter.call_module(own, args, f"{node.name}_tied", provenance)
        return Lanes(plus)

    def _writer(self, context: RewriteContext, product: LinearOp) -> LinearOp | None:
        """The product that writes a width under norms along the axis along which this one reads."""
        if _rule_of_columns(context, product) is None:
            return None
        for use in context.linear_uses.values():
            other = use.product
            if other.weight == product.weight and other.rows == product.columns:
                return other
        return None


def _rule_of_columns(context: RewriteContext, product: LinearOp) -> SiteRule | None:
    """The rule of the axis along which a product reads a width under norms."""
    if product.columns is None:
        return None
    return context.coupling.site_rules.get((product.weight, product.columns))
