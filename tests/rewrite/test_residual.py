"""Candidate layers: where they fit, that they change nothing while blank, and that they can be taken out again."""

from typing import get_args

import pytest
import torch
from torch import nn

from fxgrow.capture import Captured, capture
from fxgrow.coupling import couple
from fxgrow.errors import GrowthError
from fxgrow.rewrite import DepthProposal, LayerForm, insert_layers, insertion_points, remove_layers
from fxgrow.rewrite.residual import LAYER_FORMS
from fxgrow.spec import LayerInsertion
from tests.networks import NETWORKS, images, network

EVERYWHERE = DepthProposal(2)


def captured(name: str = "residual") -> Captured:
    return capture(network(name).requires_grad_(False), (images(),))


def forms_at(subject: Captured, depth: DepthProposal = EVERYWHERE) -> dict[str, LayerForm]:
    return {point.node: point.form for point in insertion_points(subject, couple(subject), depth)}


def vectors() -> Captured:
    """A model of tokens: [batch, tokens, channels]."""
    model = nn.Sequential(nn.Linear(5, 4), nn.GELU(), nn.Linear(4, 3))
    return capture(model.double(), (torch.randn(2, 6, 5, dtype=torch.float64),))


def test_they_follow_activations_and_sums_that_go_elsewhere() -> None:
    """Of a sum that goes into an activation alone, the activation is the end of the block."""
    found = forms_at(captured())
    nodes = {node.name: node for node in captured().graph_module.graph.nodes}
    assert found
    assert all("relu" in name or "add" in name for name in found)
    assert not any(
        all("relu" in user.name for user in nodes[name].users) for name in found if "add" in name
    )


def test_the_form_is_that_of_the_model() -> None:
    mobile = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU6(), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 2, 1)
    )
    assert set(forms_at(vectors()).values()) == {LayerForm.TOKEN}
    assert set(forms_at(capture(mobile.double(), (images(),))).values()) == {LayerForm.DEPTHWISE}
    assert set(forms_at(captured()).values()) == {LayerForm.CONVOLUTION}


def test_every_form_has_a_row_and_a_name_in_the_file_format() -> None:
    (names, _) = get_args(LayerInsertion.model_fields["form"].annotation)
    assert set(LAYER_FORMS) == set(LayerForm) == set(get_args(names))


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("form", LayerForm)
def test_every_form_is_blank_grows_and_can_be_removed(form: LayerForm, norm: bool) -> None:
    subject = vectors() if LAYER_FORMS[form].channels_last else captured()
    before = str(subject.graph_module.graph)
    points = insertion_points(subject, couple(subject), DepthProposal(2, form=form))
    assert {point.form for point in points} == {form}
    deeper, layers = insert_layers(subject, points, norm)
    inputs = subject.example_inputs
    torch.testing.assert_close(deeper.model(*inputs), subject.model(*inputs), rtol=0, atol=0)
    growable = {width.name for width in couple(deeper).widths if width.growable}
    assert layers and {layer.width for layer in layers} <= growable
    remove_layers(deeper.graph_module, layers)
    assert str(deeper.graph_module.graph) == before


def test_a_form_fits_values_of_its_own_layout_only() -> None:
    with pytest.raises(GrowthError, match="no edge"):
        forms_at(vectors(), DepthProposal(2, form=LayerForm.DEPTHWISE))
    with pytest.raises(GrowthError, match="no edge"):
        forms_at(captured(), DepthProposal(2, form=LayerForm.TOKEN))


def test_patterns_name_the_places() -> None:
    subject = captured("chain")
    first = next(iter(forms_at(subject)))
    assert list(forms_at(subject, DepthProposal(2, at=(first,)))) == [first]
    with pytest.raises(GrowthError, match="nowhere") as caught:
        forms_at(subject, DepthProposal(2, at=("nowhere*",)))
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
    points = insertion_points(subject, couple(subject), EVERYWHERE)[:1]
    once, (first,) = insert_layers(subject, points, norm=False)
    _, (second,) = insert_layers(once, points, norm=False)
    assert first.path != second.path
