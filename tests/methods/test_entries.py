"""Weights of candidates as vectors, and back."""

import torch

from fxgrow.methods.entries import NeuronEntries
from fxgrow.methods.firefly.neighborhood import (
    incoming_tensors,
    outgoing_tensors,
    overgrown_layers,
)
from tests.networks import images, network
from tests.rewrite.rewriting import over_grown, randomise_candidates


def test_columns_of_a_flattened_map_are_coordinates_of_one_neuron() -> None:
    """``chain`` flattens 3 x 3 pixels: a channel has nine columns in the linear layer after it."""
    grown = over_grown(network("chain"), images(), split=False, new=2)
    randomise_candidates(grown)
    layers = overgrown_layers(grown)
    entries = NeuronEntries.of(outgoing_tensors(layers), grown.candidates.new_eps)
    vectors = entries.read(entries.parts)
    (linear,) = [
        layer for layer in layers if layer.columns and len(layer.columns[0].candidate) == 18
    ]
    neuron = int(linear.columns[0].candidate[0])
    columns = linear.outgoing[0][:, linear.columns[0].candidate == neuron]
    assert columns.shape == (5, 9)
    torch.testing.assert_close(vectors[neuron, :45], columns.detach().reshape(-1))


def test_what_is_written_is_read() -> None:
    """Also where widths differ in their number of coordinates, and with biases."""
    grown = over_grown(network("residual"), images(), new=2)
    layers, eps = overgrown_layers(grown), grown.candidates.new_eps
    for entries in (
        NeuronEntries.splits(grown),
        NeuronEntries.of(incoming_tensors(layers), eps),
        NeuronEntries.of(outgoing_tensors(layers), eps),
    ):
        vectors = torch.randn(entries.count, entries.size, dtype=torch.float64)
        entries.write(vectors)
        found = entries.read(entries.parts)
        owned = found != 0
        assert len(set(owned.sum(1).tolist())) > 1
        torch.testing.assert_close(found[owned], vectors[owned])
        assert int(owned.sum()) == int((entries.neuron >= 0).sum())
