"""GradMax: new neurons whose incoming weights get the largest gradient that there can be.

Reference: Evci, van Merrienboer, Unterthiner, Vladymyrov, Pedregosa, "GradMax: Growing Neural
Networks using Gradient Information", ICLR 2022, Eqs. 7 to 10. New neurons with incoming weights
w_j = 0 keep the function, as sigma(0) = 0. With z = W h + sum_j c_j sigma(w_j^T x) in the layer
that reads them, their gradients dL/dw_j = M c_j, M = sigma'(0) E[x (dL/dz)^T], depend on the
outgoing weights alone, and

    max over orthonormal c_1 ... c_k of  sum_j |M c_j|^2  =  s_1^2 + ... + s_k^2

is reached by the right singular vectors of M (left ones of the paper's, which is transposed). They
get the mean norm of the layer's own columns, as in the paper's experiments.

How we differ:

- M is that of the over-grown graph, by products with it alone (``methods.bilinear``), so that
  convolutions need no approximation and layers of different kinds may follow each other; there the
  authors' code grows at random.
- Widths are compared by s_j^2, in units of the layers' weights.
- A relu of exactly 0 has the derivative 0 in torch, and would stay dead. So new biases are the
  smallest number above 0, or, in a layer without biases, incoming weights are as small; beside what
  a network computes with it is nothing.
- Where a batch norm follows (its derivative at a constant channel is 1 / sqrt(eps), and what it
  gives after one step is of variance 1 at once) or where sigma(0) is not 0, incoming weights of 0
  do not do. There the two ends change roles: outgoing weights are 0, which keeps the function
  whatever follows, and incoming weights are the left singular vectors, for which the gradient
  |M^T w_j| = s_j of the outgoing weights is largest to first order in w.
- Candidates beyond the rank of M have random incoming weights and outgoing weights of 0.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from fxgrow.coupling import Coupling
from fxgrow.documents import Settings, limits
from fxgrow.growth import Objective, Proposal, Scores, SelectFunction, estimate_statistics
from fxgrow.methods.bilinear import BilinearForm, lift, singular_vectors
from fxgrow.methods.firefly.neighborhood import initialize, overgrown_layers
from fxgrow.methods.proposals import propose_everywhere
from fxgrow.methods.zero_outgoing import ON
from fxgrow.rewrite import OverGrown, OvergrownLayer

_RANK = 1e-6
"""A singular value below this share of the largest of its width is rounding."""


class GradMax(Settings):
    """New neurons with the largest gradient, by singular vectors.

    The function stays as it is: what is gained comes with the training after it.

    Args:
        new: candidates per width, of which the best are kept; None: ``LEAST_NEW``, and more where
            the budget can buy more.
        iterations: of the subspace iteration that finds the singular vectors.

    Example:
        >>> method = GradMax()
        >>> fxgrow.grow(model, batches, loss_fn, example_inputs=inputs, method=method)
    """

    new: int | None = Field(default=None, ge=1, le=limits.CANDIDATES)
    iterations: int = Field(default=3, ge=1, le=limits.STEPS)

    @property
    def needs_one_process(self) -> bool:
        """Its search is not computed over several processes."""
        return True

    @property
    def keeps_function(self) -> bool:
        """The loss stays what it is."""
        return True

    def propose(self, coupling: Coupling) -> Proposal:
        """Propose ``new`` neurons per growable width, and no splits."""
        return propose_everywhere(coupling, self.new, split=False)

    def search(
        self,
        grown: OverGrown,
        objective: Objective,
        generator: torch.Generator,
        choose: SelectFunction,
    ) -> Scores:
        """Set singular vectors as outgoing weights (or incoming ones); the score is s_j^2."""
        initialize(grown, ON, generator)
        form = BilinearForm.of(grown, objective)
        random = form.incoming.read(form.incoming.parts).double().cpu()
        form.start()
        silent = _silent_at_zero(form)
        found = singular_vectors(form, generator, self.iterations)
        # Three kinds: outgoing weights along c_j, incoming ones along w_j, or neither.
        has_vector = _within_rank(found.values, grown)
        by_outgoing = (has_vector & silent)[:, None]
        by_incoming = (has_vector & ~silent)[:, None]
        nearly_zero = -lift(grown.candidates.new_eps) * found.incoming
        incoming = torch.where(by_incoming, found.incoming, random)
        form.incoming.write(torch.where(by_outgoing, nearly_zero, incoming))
        form.outgoing.write(torch.where(by_outgoing, found.outgoing, 0.0))
        _lift_biases(grown, by_outgoing[:, 0])
        estimate_statistics(grown, objective)
        return Scores(torch.zeros(len(grown.candidates.split_eps)), found.values.square())

    def refine(self, grown: OverGrown, objective: Objective) -> None:
        """Do nothing: training moves the new neurons."""


def _within_rank(values: Tensor, grown: OverGrown) -> Tensor:
    """Whether a candidate has a singular vector, and not only what rounding made of 0."""
    within = torch.zeros(len(values), dtype=torch.bool)
    for places in grown.candidates.new.values():
        within[places] = values[places] > _RANK * values[places].max()
    return within


def _silent_at_zero(form: BilinearForm) -> Tensor:
    """Whether each candidate gives 0 where its incoming weights are 0, and no batch norm follows.

    Candidates whose readers are not seen (inside recurrent layers) count as not silent.
    """
    grown = form.grown
    largest: dict[int, float] = {}
    handles = []
    for layer in overgrown_layers(grown):
        if layer.columns:
            handles.append(layer.register_forward_hook(partial(_watch, largest)))
    try:
        form.objective.output(grown.graph_module)
    finally:
        for handle in handles:
            handle.remove()
    normalized = set()
    # A batch norm has a running variance for each channel, also as a function.
    for entry in grown.entries:
        if entry.slots is not None and entry.parameter.endswith("running_var"):
            normalized.add(entry.slots.width)
    silent = torch.zeros(len(grown.candidates.new_eps), dtype=torch.bool)
    for width, places in grown.candidates.new.items():
        silent[places] = largest.get(width) == 0 and width not in normalized
    return silent


def _watch(largest: dict[int, float], layer: OvergrownLayer, inputs: Sequence[Any], _: Any) -> None:
    """Note the largest value that the new neurons of each width have where they are read."""
    for slots, lane in zip(layer.columns, inputs[2], strict=True):
        here = float(lane.detach().abs().max())
        largest[slots.width] = max(here, largest.get(slots.width, 0.0))


@torch.no_grad()
def _lift_biases(grown: OverGrown, is_lifted: Tensor) -> None:
    """Let a bias of the smallest kind stand for incoming weights of 0, where there is a bias."""
    for layer in overgrown_layers(grown):
        new = layer.new
        if not new or layer.bias is None:
            continue
        candidate = torch.cat([slots.candidate for slots in layer.rows])
        here = is_lifted[candidate].to(new[0].device)
        for rows in new[:-1]:
            rows[here] = 0.0
        new[-1][here] = lift(new[-1].real) / float(layer.unit_row)
