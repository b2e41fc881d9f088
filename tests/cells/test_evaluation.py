"""DARTS_V2 has 3,349,342 parameters in the code of its authors (github.com/quark0/darts), 3,825,768 with its second
classifier. The others have no published number of so many digits; they are counted by hand from the same layers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import fxgrow
from fxgrow.cells import (
    GENOTYPES,
    AuxiliaryScores,
    Genotype,
    cell_positions,
    evaluation_network,
    genotype_text,
)
from fxgrow.cells.evaluation import named_network
from fxgrow.cells.genotype import GENOTYPE_DOCUMENT
from fxgrow.cells.stack import cell_of
from fxgrow.errors import ModelError
from fxgrow.spec import ArchitectureSpec, describe, save
from tests.cells.modules import parameters, randomised

# The first is published.
EXACT = {
    "DARTS_V2": (3_349_342, 3_825_768),
    "DARTS_V1": (3_169_414, 3_645_840),
    "AmoebaNet": (3_145_078, 3_603_072),
    "NASNet": (3_830_950, 4_288_944),
}
CLASSES = 10


@pytest.mark.parametrize("name", EXACT)
def test_the_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        sizes = [
            parameters(evaluation_network(GENOTYPES[name], auxiliary=more))
            for more in (False, True)
        ]
    assert tuple(sizes) == EXACT[name]
    assert sizes[0] == sum(by_hand(GENOTYPES[name]))


def by_hand(genotype: Genotype) -> Iterator[int]:
    """Parameters of stem, cells and classifier, from formulas over their sizes."""
    stack = cell_positions(20, 36, len(genotype.normal.concat), len(genotype.reduce.concat))
    yield 27 * 108 + 2 * 108
    for place in stack:
        c, cell = place.channels, cell_of(genotype, place.kind)
        yield (place.older + place.newer) * c + 4 * c
        yield sum(
            edge_by_hand(edge.operation, c, place.stride(edge.source))
            for node in cell.nodes
            for edge in node
        )
    outputs = stack[-1].channels * len(genotype.normal.concat)
    yield outputs * CLASSES + CLASSES


def edge_by_hand(operation: str, c: int, stride: int) -> int:
    kind, _, size = operation.rpartition("_")
    if kind in ("sep_conv", "dil_conv"):
        return (2 if kind == "sep_conv" else 1) * (int(size[0]) ** 2 * c + c * c + 2 * c)
    if operation == "conv_7x1_1x7":
        return 14 * c * c + 2 * c
    return c * c + 2 * c if operation == "skip_connect" and stride == 2 else 0


def test_the_cells_have_the_sizes_of_the_paper() -> None:
    with torch.device("meta"):
        network = evaluation_network(GENOTYPES["DARTS_V2"])
        assert len(network.cells) == 20
        assert network.classifier.in_features == 4 * 144
        assert network.stem[0].out_channels == 108


def small(
    name: str = "DARTS_V2", auxiliary: bool = False, drop_path: float = 0.0
) -> torch.nn.Module:
    torch.manual_seed(0)
    return randomised(evaluation_network(GENOTYPES[name], 2, 3, 5, auxiliary, drop_path))


@pytest.mark.parametrize("side", [4, 8, 9, 16, 32])
def test_small_images(side: int) -> None:
    scores = small(auxiliary=True)(torch.randn(2, 3, side, side))
    assert [score.shape for score in scores] == [(2, 5), (2, 5)]


def test_the_second_classifier_speaks_in_training_alone() -> None:
    network, images = small(auxiliary=True), torch.randn(3, 3, 8, 8)
    trained = network(images)
    assert isinstance(trained, AuxiliaryScores)
    assert not torch.equal(trained.logits, trained.auxiliary)
    network.eval()
    assert (
        torch.equal(network(images), small().eval()(images)) is False
    )  # training moved the statistics
    assert network(images).shape == (3, 5)
    assert isinstance(small()(images), torch.Tensor)


def test_the_second_classifier_hears_the_second_reduction_cell() -> None:
    torch.manual_seed(0)
    network = evaluation_network(GENOTYPES["DARTS_V2"], 2, 6, 5, True)
    network(torch.randn(2, 3, 8, 8)).auxiliary.sum().backward()
    reached = [any(p.grad is not None for p in cell.parameters()) for cell in network.cells]
    assert reached == [True] * 5 + [False]


def test_drop_path_follows_torchs_seed() -> None:
    network, images = small(drop_path=0.5), torch.randn(4, 3, 8, 8)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(network(images))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def spec(network: torch.nn.Module) -> ArchitectureSpec:
    images = (torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)),)
    return describe(fxgrow.capture(network, images).graph_module, images)


def test_saved_and_loaded_to_the_bit(tmp_path: Path) -> None:
    network = randomised(evaluation_network(GENOTYPES["AmoebaNet"], 2, 2, 5, drop_path=0.2)).eval()
    images = torch.randn(2, 3, 8, 8)
    captured = fxgrow.capture(network, (images,))
    assert [part.how.value for part in captured.report] == ["traced"]
    save(captured.graph_module, tmp_path / "saved", describe(captured.graph_module, (images,)))
    assert torch.equal(fxgrow.load(tmp_path / "saved").eval()(images), network(images))


def test_a_genotype_that_is_written_and_read_builds_the_same() -> None:
    read = GENOTYPE_DOCUMENT.read(genotype_text(GENOTYPES["DARTS_V2"]))
    first, second = spec(small()), spec(randomised(evaluation_network(read, 2, 3, 5)))
    assert first.fingerprint == second.fingerprint
    assert spec(small(auxiliary=True, drop_path=0.3)).fingerprint == first.fingerprint
    assert spec(small("DARTS_V1")).fingerprint != first.fingerprint


def test_by_the_name_of_its_genotype() -> None:
    network = named_network("AmoebaNet", channels=2, layers=3, num_classes=4)
    assert parameters(network) == parameters(evaluation_network(GENOTYPES["AmoebaNet"], 2, 3, 4))


def test_no_classes() -> None:
    with pytest.raises(ModelError, match="0 classes"):
        evaluation_network(GENOTYPES["DARTS_V2"], 2, 3, 0)
