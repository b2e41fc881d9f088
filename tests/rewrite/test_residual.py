"""Candidate layers: where they fit, that they change nothing while blank, and that they can be taken out again."""

import pytest
import torch
from torch import nn

from fxgrow.capture import Captured, capture
from fxgrow.coupling import couple
from fxgrow.errors import GrowthError
from fxgrow.rewrite import DepthProposal, LayerForm, insert_layers, insertion_points, remove_layers
from tests.networks import NETWORKS, images, network

EVERYWHERE = DepthProposal(2)


def captured(name: str = "residual") -> Captured:
    return capture(network(name).requires_grad_(False), (images(),))


def edges_of(subject: Captured, depth: DepthProposal = EVERYWHERE) -> dict[str, LayerForm]:
    return {edge.node: edge.form for edge in insertion_points(subject, couple(subject), depth)}


def test_they_follow_activations_and_sums_that_go_elsewhere() -> None:
    """Of a sum that goes into an activation alone, the activation is the end of the block."""
    found = edges_of(captured())
    nodes = {node.name: node for node in captured().graph_module.graph.nodes}
    assert found
    assert all("relu" in name or "add" in name for name in found)
    assert not any(
        all("relu" in user.name for user in nodes[name].users) for name in found if "add" in name
    )


def test_the_form_is_that_of_the_model() -> None:
    tokens = nn.Sequential(nn.Linear(5, 4), nn.GELU(), nn.Linear(4, 3))
    mobile = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU6(), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 2, 1)
    )
    vectors = capture(tokens.double(), (torch.randn(2, 6, 5, dtype=torch.float64),))
    assert set(edges_of(vectors).values()) == {LayerForm.TOKEN}
    assert set(edges_of(capture(mobile.double(), (images(),))).values()) == {LayerForm.DEPTHWISE}
    assert set(edges_of(captured()).values()) == {LayerForm.CONVOLUTION}


def test_patterns_name_the_places() -> None:
    subject = captured("chain")
    first = next(iter(edges_of(subject)))
    assert list(edges_of(subject, DepthProposal(2, at=(first,)))) == [first]
    with pytest.raises(GrowthError, match="nowhere") as caught:
        edges_of(subject, DepthProposal(2, at=("nowhere*",)))
    assert caught.value.code == "no-edges"


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_blank_layer_is_the_identity(name: str, norm: bool) -> None:
    subject = captured(name)
    expected = subject.model(images())
    deeper, layers = insert_layers(
        subject, insertion_points(subject, couple(subject), EVERYWHERE), norm
    )
    assert len(list(deeper.model.modules())) > len(list(subject.graph_module.modules()))
    torch.testing.assert_close(deeper.model(images()), expected, rtol=0, atol=0)
    hidden = {layer.width for layer in layers}
    assert hidden <= {width.name for width in couple(deeper).widths if width.growable}


def test_erased_layers_leave_nothing() -> None:
    subject = captured()
    before = str(subject.graph_module.graph)
    deeper, layers = insert_layers(
        subject, insertion_points(subject, couple(subject), EVERYWHERE), norm=False
    )
    remove_layers(deeper.graph_module, layers)
    assert str(deeper.graph_module.graph) == before
    assert (
        dict(deeper.model.named_parameters()).keys()
        == dict(subject.graph_module.named_parameters()).keys()
    )
    assert not hasattr(deeper.model, "grown_layers")


def test_a_second_layer_at_one_place_gets_a_name_of_its_own() -> None:
    subject = captured("chain")
    edges = insertion_points(subject, couple(subject), EVERYWHERE)[:1]
    once, (first,) = insert_layers(subject, edges, norm=False)
    _, (second,) = insert_layers(once, edges, norm=False)
    assert first.path != second.path
