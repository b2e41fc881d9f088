"""TINY: new neurons for what the loss asks of a layer and the layer cannot express.

Reference: Verbockhaven, Rudkiewicz, Chevallier, Charpiat, "Growing Tiny Networks: Spotting
Expressivity Bottlenecks and Fixing Them Optimally", TMLR 2024, Definitions 1 and 2, Propositions 1
to 3. A layer z = W h would have to move by V = -dL/dz. Of that its own weights can do the
projection D h, D = E[V h^T] E[h h^T]^+; what is left, V - D h, is its expressivity bottleneck. New
neurons c_k sigma(w_k^T x) that linearly come closest to it are, with

    S = E[x x^T],   N = E[x (V - D h)^T],   S^{-1/2} N = sum_k s_k u_k v_k^T,

the pairs w_k = S^{-1/2} u_k, c_k = s_k v_k. A step gamma along all of them lowers the loss by
gamma sum_k s_k^2 to first order.

How we differ:

- N is a product with the over-grown graph (``methods.bilinear``), its singular vectors come from
  subspace iteration.
- Incoming weights are as long as the layer's own rows and outgoing ones take what is left of
  gamma s_k (the paper shares it out as its root on both). Behind a batch norm, which undoes any
  scale, c_k = gamma s_k v_k.
- relu(a) = (a + |a|) / 2, and linearization knows only the first half. (w_k, c_k) and (-w_k, -c_k)
  are the same to it, so both are tried in one pass each, and the better one stays. The score is the
  decrease of the loss to first order on other batches, the true one and not the linearized.
- gamma is halved until the loss does not rise (``growth.backtrack``), where the paper has a line
  search. The own step D h of the layer is left to training.
- A width that several layers write, or one that is neither linear nor a convolution, has no
  candidates: no S is right for it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from fxgrow.coupling import Coupling, Role, Width
from fxgrow.documents import Settings, limits
from fxgrow.errors import Refusal
from fxgrow.growth import (
    Objective,
    Proposal,
    Scores,
    SelectFunction,
    estimate_statistics,
    gradients_of,
)
from fxgrow.methods.bilinear import BilinearForm, singular_vectors
from fxgrow.methods.firefly.neighborhood import initialize, overgrown_layers
from fxgrow.methods.gradients import mean_gradients
from fxgrow.methods.proposals import growable_widths, propose_everywhere
from fxgrow.methods.zero_outgoing import ON
from fxgrow.rewrite import OverGrown, OvergrownLayer

_SMALLEST = 1e-6
"""An eigenvalue of a second moment below this share of the largest counts as 0."""

_AT_ONCE = 2**24
"""Numbers that layers see which are held in memory at once."""

ForwardHook = Callable[[OvergrownLayer, Any, Any], None]


class TINY(Settings):
    """New neurons along the expressivity bottleneck of the layers that read them.

    Args:
        new: candidates per width, of which the best are kept; None: ``LEAST_NEW``, and more where
            the budget can buy more.
        step: gamma, of which the outputs of layers move along the bottleneck.
        iterations: of the subspace iteration that finds the singular vectors.

    Example:
        >>> fxgrow.grow(model, batches, loss_fn, example_inputs=inputs, method=TINY())
    """

    new: int | None = Field(default=None, ge=1, le=limits.CANDIDATES)
    step: float = Field(default=1.0, gt=0, le=limits.RATE)
    iterations: int = Field(default=3, ge=1, le=limits.STEPS)

    @property
    def needs_one_process(self) -> bool:
        """Its search is not computed over several processes."""
        return True

    def propose(self, coupling: Coupling) -> Proposal:
        """Propose ``new`` neurons per width that one plain layer writes, and no splits."""
        everywhere = propose_everywhere(coupling, self.new, split=False)
        refusals: dict[int, Refusal] = {}
        for number in growable_widths(coupling):
            reason = _unfit(coupling.widths[number])
            if reason:
                refusals[number] = Refusal("method", f"TINY has no candidates for it: {reason}")
        new = {width: count for width, count in everywhere.new.items() if width not in refusals}
        return replace(everywhere, new=new, refusals=refusals)

    def search(
        self,
        grown: OverGrown,
        objective: Objective,
        generator: torch.Generator,
        choose: SelectFunction,
    ) -> Scores:
        """Set neurons along the bottleneck; the score is what each lowers the loss by."""
        initialize(grown, ON, generator)
        form = BilinearForm.of(grown, objective)
        random = form.incoming.read(form.incoming.parts).double().cpu()
        form.start()
        moments = second_moments(form)
        whiten, unscale = partial(_whiten, form, moments.whitening()), partial(_unscale, form)
        with moments.bottleneck(form) as projected:
            found = singular_vectors(projected, generator, self.iterations, whiten, unscale)
        # w_k = S^{-1/2} u_k, cut to the length of a row of the layer; c_k takes the rest.
        incoming = whiten(found.incoming)
        length = incoming.norm(dim=1, keepdim=True)
        exists = length > 0
        product = self.step * found.values[:, None] * torch.where(_normalized(grown), 1.0, length)
        incoming = torch.where(exists, incoming / length.clamp(min=1e-300), random)
        # u_k and v_k are of N' = -N, the gradient: so c_k changes its sign.
        outgoing = -product * unscale(found.outgoing)
        new = _better_sign(form, incoming, outgoing)
        return Scores(torch.zeros(len(grown.candidates.split_eps)), new)

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        """Do nothing: training moves the new neurons."""


def _unfit(width: Width) -> str:
    """Why a width has no second moment S of its own, as a part of a sentence; "" if it has."""
    writers = set()
    for site in width.sites:
        module, _, name = site.parameter.rpartition(".")
        if site.role is not Role.CARRIES and name not in ("weight", "bias"):
            return f"{site.parameter} is no weight of a linear layer or convolution"
        if site.role is Role.WRITES:
            writers.add(module)
    if len(writers) != 1:
        return f"{len(writers)} layers write it ({', '.join(sorted(writers)[:3])})"
    return ""


def _normalized(grown: OverGrown) -> Tensor:
    """Whether a batch norm follows each candidate: [candidates, 1]."""
    normalized = torch.zeros(len(grown.candidates.new_eps), 1, dtype=torch.bool)
    for entry in grown.entries:
        if entry.slots is not None and entry.parameter.endswith("running_var"):
            normalized[entry.slots.candidate] = True
    return normalized


def _better_sign(form: BilinearForm, incoming: Tensor, outgoing: Tensor) -> Tensor:
    """Set each candidate, or both its ends negated, whichever lowers the loss by more.

    Returns:
        The decrease of the loss of every candidate switched on alone, to first order.
    """
    gains: list[Tensor] = []
    for sign in (1.0, -1.0):
        gains.append(_gain(form, sign * incoming, sign * outgoing))
    better = torch.where(gains[0] >= gains[1], 1.0, -1.0).double()[:, None]
    form.incoming.write(better * incoming)
    form.outgoing.write(better * outgoing)
    with torch.no_grad():
        form.grown.candidates.new_eps.fill_(ON)
    estimate_statistics(form.grown, form.objective)
    return torch.maximum(*gains)


def _gain(form: BilinearForm, incoming: Tensor, outgoing: Tensor) -> Tensor:
    """-dL/d eps of every candidate at eps = 0, on the batches to score on."""
    grown = form.grown
    form.incoming.write(incoming)
    form.outgoing.write(outgoing)
    estimate_statistics(grown, form.objective)
    with torch.no_grad():  # at eps = 0 no candidate changes what another one is worth
        grown.candidates.new_eps.zero_()
    (slope,) = mean_gradients(grown, form.objective.scoring, [grown.candidates.new_eps])
    return -slope.double().cpu()  # downhill is a gain


@dataclass
class SecondMoments:
    """What the layers at both ends of new neurons see, summed over all positions.

    Positions are examples, pixels, tokens. A layer sees ``inputs``: the numbers that one of its
    outputs is computed of, and 1 if it has a bias.

    Args:
        squares: sum of x x^T of each layer that writes or reads new neurons, group by group.
        desired: sum of dL/dz x^T of each layer that reads them, of the mean loss.
        positions: how many positions were seen.

    Shapes:
        squares: [groups, inputs, inputs].
        desired: [groups, outputs of a group, inputs].
    """

    squares: dict[OvergrownLayer, Tensor] = field(default_factory=dict)
    desired: dict[OvergrownLayer, Tensor] = field(default_factory=dict)
    positions: dict[OvergrownLayer, int] = field(default_factory=lambda: defaultdict(int))

    def watch(
        self, share: float, layer: OvergrownLayer, given: Sequence[Any], output: Sequence[Tensor]
    ) -> None:
        """Add what a layer sees; and, once the gradient of its output is there, what it lacks."""
        parts = _examples_at_once(layer, given, output[0])
        for part in given[0].split(parts):
            inputs = layer_inputs(layer, part, given[4:])
            self.squares[layer] = self.squares.get(layer, 0.0) + inputs.mT @ inputs
            self.positions[layer] += inputs.shape[1]

        def add_desired(gradient: Tensor) -> None:
            pairs = zip(given[0].split(parts), gradient.split(parts), strict=True)
            for part, of_part in pairs:
                by_position = share * by_group(layer, of_part).double()
                asked = by_position.mT @ layer_inputs(layer, part, given[4:])
                self.desired[layer] = self.desired.get(layer, 0.0) + asked

        if layer.columns:
            output[0].register_hook(add_desired)

    def whitening(self) -> dict[OvergrownLayer, Tensor]:
        """S^{-1/2} of each layer that writes new neurons, in units of its weights."""
        found: dict[OvergrownLayer, Tensor] = {}
        for layer, squares in self.squares.items():
            if layer.new:
                scale = float(layer.unit_row) ** 2 / self.positions[layer]
                found[layer] = _inverse_root(scale * squares)
        return found

    @contextmanager
    def bottleneck(self, form: BilinearForm) -> Iterator[BilinearForm]:
        """The form N instead of M: what layers can do by themselves is taken out of dL/dz.

        D h is linear in h as z is, so sum (D h)^T c sigma(w^T x) over the positions is a term of
        the loss whose mixed derivative is what N has less than M.
        """
        terms: list[Tensor] = []

        def take() -> Sequence[Tensor]:
            taken = list(terms)
            terms.clear()
            return taken

        def add_term(layer: OvergrownLayer, given: Sequence[Any], _: Any) -> None:
            plus, lanes, blocks, more = given[0], given[2], given[3], given[4:]
            weight, bias = own_step[layer]
            own = layer.product.form(plus, weight, bias, more).detach()
            for lane, columns in zip(lanes, blocks.columns, strict=True):
                terms.append(-(own * layer.product.form(lane, columns, None, more)).sum())

        own_step = {layer: self._own_step(layer) for layer in self.desired}
        hooks: dict[OvergrownLayer, ForwardHook] = dict.fromkeys(own_step, add_term)
        with _hooked(hooks):
            yield replace(form, correction=take)

    def _own_step(self, layer: OvergrownLayer) -> tuple[Tensor, Tensor | None]:
        """-D of a layer that reads new neurons, as a weight and a bias: closest to dL/dz."""
        squares, desired = self.squares[layer], self.desired[layer]
        # Least squares, by the pseudo-inverse, since inputs may be 0 or alike.
        solution = desired @ torch.linalg.pinv(squares, hermitian=True, rtol=_SMALLEST)
        flat = solution.flatten(0, 1)  # [out, inputs]
        weight, bias = layer.base().weight, layer.bias
        size = weight[0].numel()
        step = flat[:, :size].reshape(weight.shape).to(weight)
        return step, None if bias is None else flat[:, size].to(bias)


def second_moments(form: BilinearForm) -> SecondMoments:
    """Take the second moments of all layers that write or read new neurons, in one pass each way.

    Args:
        form: its batches are those that are seen; its new neurons are at 0.
    """
    moments, objective = SecondMoments(), form.objective
    objective.ranks.require_alone("TINY")
    layers = [layer for layer in overgrown_layers(form.grown) if layer.new or layer.columns]
    parts = [layer.outgoing[0] for layer in layers if layer.columns]
    for batch, size in zip(objective.batches, objective.sizes, strict=True):
        share = size / sum(objective.sizes)
        hooks: dict[OvergrownLayer, ForwardHook] = dict.fromkeys(
            layers, partial(moments.watch, share)
        )
        with _hooked(hooks):
            loss = objective.on(form.grown.graph_module, batch)
            if parts:  # the gradients of outputs come by on the way to the outgoing weights
                gradients_of(loss, parts, allow_unused=True)
    return moments


@contextmanager
def _hooked(hooks: dict[OvergrownLayer, ForwardHook]) -> Iterator[None]:
    handles = [layer.register_forward_hook(hook) for layer, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def layer_inputs(layer: OvergrownLayer, x: Tensor, more: Sequence[Any] = ()) -> Tensor:
    """What each output of a layer is computed of, as the layer itself picks it.

    A layer whose weight is the identity gives its own inputs: so patches of convolutions of any
    kind come out without a formula for each.

    Args:
        layer: the layer.
        x: its input.
        more: what else it takes.

    Returns:
        [groups, positions, inputs]; the last input is 1 if the layer has a bias.
    """
    form, weight = layer.product.form, layer.base().weight
    size = weight[0].numel()
    # Row i of the identity picks input i: one of a patch, say.
    identity = torch.eye(size, dtype=weight.dtype, device=weight.device)
    rows = identity.reshape(size, *weight.shape[1:])
    of_all_groups = rows.repeat(form.groups, *[1] * (weight.dim() - 1))
    inputs = by_group(layer, form(x, of_all_groups, None, more)).double()
    if layer.bias is None:
        return inputs
    return torch.cat([inputs, inputs.new_ones(*inputs.shape[:2], 1)], 2)


def _examples_at_once(layer: OvergrownLayer, given: Sequence[Any], output: Tensor) -> int:
    """How many examples have at most ``_AT_ONCE`` inputs together."""
    x, weight = given[0], layer.base().weight
    if len(given) > 5:  # what else a layer takes may belong to single examples, too
        return max(len(x), 1)
    positions = output.numel() // len(weight) // max(len(x), 1)
    entries = positions * weight[0].numel() * layer.product.form.groups
    return max(_AT_ONCE // max(entries, 1), 1)


def by_group(layer: OvergrownLayer, output: Tensor) -> Tensor:
    """From an output of a layer to [groups, positions, rows of a group]."""
    form = layer.product.form
    grouped: Tensor = form.by_position(output).unflatten(1, (form.groups, -1)).transpose(0, 1)
    return grouped


def _inverse_root(squares: Tensor) -> Tensor:
    """S^{-1/2} on what S spans, 0 beside it."""
    values, vectors = torch.linalg.eigh(squares)
    is_spanned = values > _SMALLEST * values.amax(-1, keepdim=True)
    roots = torch.where(is_spanned, values.clamp(min=1e-300).rsqrt(), 0.0)
    inverse_root: Tensor = vectors * roots[..., None, :] @ vectors.mT
    return inverse_root


def _whiten(form: BilinearForm, whitening: dict[OvergrownLayer, Tensor], vectors: Tensor) -> Tensor:
    """S^{-1/2} w of every candidate, row by row of the layers that write it."""
    parts = form.incoming.parts
    values = dict(zip(map(id, parts), form.incoming.spread(vectors), strict=True))
    for layer, root in whitening.items():
        new = layer.new or []
        if not new or id(new[0]) not in values:
            continue
        rows = [values[id(part)].reshape(len(part), -1) for part in new]
        by_group_of_rows = torch.cat(rows, 1).double().unflatten(0, (len(root), -1))
        whitened = (by_group_of_rows @ root).flatten(0, 1)
        pieces = whitened.split([row.shape[1] for row in rows], dim=1)
        for part, piece in zip(new, pieces, strict=True):
            values[id(part)] = piece.reshape(part.shape)
    return form.incoming.read([values[id(part)].double() for part in parts]).cpu()


def _unscale(form: BilinearForm, vectors: Tensor) -> Tensor:
    """Outgoing weights in units of their layers: V is a step of the layers' outputs themselves."""
    parts = list(form.outgoing.spread(vectors))
    place = {id(part): number for number, part in enumerate(form.outgoing.parts)}
    for layer in overgrown_layers(form.grown):
        for part in layer.outgoing:
            if id(part) in place:
                parts[place[id(part)]] = parts[place[id(part)]] / layer.unit_column
    return form.outgoing.read(parts).double().cpu()
