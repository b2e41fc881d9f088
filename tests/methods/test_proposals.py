"""What methods propose: growable widths by their number in the coupling."""

import pytest
import torch

from fxgrow.capture import capture
from fxgrow.coupling import couple
from fxgrow.errors import ArgumentError
from fxgrow.growth import Proposal, Scores
from fxgrow.methods import Firefly, RandomGrowth, Splitting
from fxgrow.methods.proposals import growable_widths
from tests.networks import images, network


def test_refused_widths_are_not_proposed() -> None:
    coupling = couple(capture(network("residual"), (images(),)))
    growable = growable_widths(coupling)
    names = {coupling.widths[number].name for number in growable}
    refused = {width.name for width in coupling.widths if not width.growable}
    assert growable and refused and not names & refused
    for method in (Firefly(new=2), RandomGrowth(new=2)):
        proposal = method.propose(coupling)
        assert proposal.split == set(growable)
        assert proposal.new == dict.fromkeys(growable, 2)
    assert Splitting().propose(coupling).split == set(growable)
    assert not Splitting().propose(coupling).new
    assert not Firefly(split=False).propose(coupling).split


def test_wrong_proposals_and_scores_of_a_method_of_ones_own_are_told() -> None:
    with pytest.raises(ArgumentError, match="split"):
        Proposal(3, {0: 2})
    with pytest.raises(ArgumentError, match="new"):
        Proposal({0}, [2])
    with pytest.raises(ArgumentError, match="new"):
        Scores(torch.zeros(2), [0.5])
    assert Proposal({0}, {0: 2}).split == {0}
