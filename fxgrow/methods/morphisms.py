"""What methods that draw whole morphisms at random have in common: a width, or a layer, at a time.

A morphism here is a larger network with the same function: a width with more neurons whose outgoing
weights are 0, or a residual layer whose outgoing weights are 0. As scores, a morphism is one random
number for all of its candidates, so that they are bought together.
"""

import math

import torch

from fxgrow.coupling import Coupling
from fxgrow.documents import limits
from fxgrow.growth import Objective, Proposal, Scores, estimate_statistics
from fxgrow.methods.firefly.neighborhood import initialize
from fxgrow.methods.proposals import growable_widths
from fxgrow.methods.zero_outgoing import ON
from fxgrow.rewrite import DepthProposal, OverGrown


def propose_morphisms(coupling: Coupling, wider: float, depth: DepthProposal | None) -> Proposal:
    """Propose to widen every width by the same share, and to insert layers.

    Args:
        coupling: the widths of the model.
        wider: new neurons per neuron of a width, rounded up; more where the budget can buy more.
        depth: the layers; None for none.
    """
    counts = {}
    for number in growable_widths(coupling):
        # Rounded up, so that the narrowest width has a candidate too.
        wanted = math.ceil(wider * coupling.widths[number].size)
        counts[number] = min(wanted, limits.CANDIDATES)
    return Proposal(frozenset(), counts, depth, follows_budget=True)


def draw_morphisms(grown: OverGrown, objective: Objective, generator: torch.Generator) -> Scores:
    """Draw what new neurons start from, outgoing weights of 0, and the order of the morphisms.

    Args:
        grown: the over-grown graph, changed in place.
        objective: its batches give batch norms of new neurons their statistics.
        generator: of all random draws.

    Returns:
        The order, as ``draw_order`` gives it.
    """
    initialize(grown, ON, generator)
    estimate_statistics(grown, objective)
    return draw_order(grown, generator)


def draw_order(grown: OverGrown, generator: torch.Generator) -> Scores:
    """Draw the order in which widths and layers are bought, whatever they cost.

    Args:
        grown: the over-grown graph.
        generator: draws one number per width, those of layers included.

    Returns:
        The same score for all new neurons of a width.
    """
    candidates = grown.candidates
    # In double precision, so that the order is the same whatever the model's dtype is.
    new = torch.zeros(len(candidates.new_eps), dtype=torch.float64)
    for places in candidates.new.values():
        # One number for the whole morphism: equal scores are bought one after the other.
        new[places] = torch.rand((), generator=generator, dtype=torch.float64)
    split = torch.zeros(len(candidates.split_eps), dtype=torch.float64)
    return Scores(split, new, per_cost=False)
