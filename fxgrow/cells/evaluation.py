"""The network that a genotype is evaluated in: its cells stacked, a classifier at the end.

References: Liu, Simonyan, Yang, "DARTS", ICLR 2019, Sec. 3.2 and App. A.2 (20 cells, 36 channels,
an auxiliary classifier whose loss counts 0.4); Szegedy et al. 2015 (auxiliary classifiers). How we
differ: the auxiliary classifier pools to 2 x 2 whatever the size of its input, where theirs takes
averages of 5 x 5, which overlap, of a map of 8 x 8; so images smaller than 32 x 32 work. The number
of parameters is the same.
"""

from typing import NamedTuple

from torch import Tensor, nn

from fxgrow.argument_checks import checked
from fxgrow.cells.cell import CellModule, OperationBuilder, known_operation
from fxgrow.cells.genotype import Genotype
from fxgrow.cells.genotypes.lookup import find_genotype
from fxgrow.cells.stack import _MEMORY_FORMAT, auxiliary_position, cell_of, cell_positions, stem
from fxgrow.documents import limits
from fxgrow.errors import ModelError
from fxgrow.memory import bounded_model, counted_first

AUXILIARY_CHANNELS = (128, 768)
"""Channels of the two convolutions of an auxiliary classifier."""


class AuxiliaryScores(NamedTuple):
    """The output in training of a network with an auxiliary classifier.

    Args:
        logits: class scores of the classifier at the end, [batch, classes].
        auxiliary: class scores of the auxiliary classifier, [batch, classes].

    Example:
        >>> network = evaluation_network(GENOTYPES["DARTS_V2"], 4, 3, auxiliary=True).train()
        >>> network(torch.randn(2, 3, 32, 32)).auxiliary.shape
        torch.Size([2, 10])
    """

    logits: Tensor
    auxiliary: Tensor


class EvaluationNetwork(nn.Module):
    """A stack of cells with a classifier; ``evaluation_network`` builds it from checked arguments.

    Args:
        genotype: the two cells.
        channels: channels of the nodes before the first reduction.
        layers: number of cells.
        num_classes: number of classes.
        auxiliary: add an auxiliary classifier after the second reduction cell.
        drop_path: probability with which an operation is left out in training.
        choose: makes the operation of an edge; by default the one that the edge names.

    Shapes:
        images: [batch, 3, height, width]
        output: [batch, num_classes]

    Example:
        >>> EvaluationNetwork(GENOTYPES["DARTS_V2"], channels=4, layers=3, num_classes=10)
    """

    @checked
    @bounded_model("the network of cells", limits.ENTRIES)
    def __init__(
        self,
        genotype: Genotype,
        channels: int,
        layers: int,
        num_classes: int,
        auxiliary: bool = False,
        drop_path: float = 0.0,
        choose: OperationBuilder = known_operation,
    ) -> None:
        super().__init__()
        if not 1 <= num_classes <= limits.OPTION_SIZE:
            raise ModelError(
                "model-options",
                f"{num_classes} classes cannot be told apart; ask for 1 to {limits.OPTION_SIZE}",
            )
        positions = cell_positions(
            layers, channels, len(genotype.normal.concat), len(genotype.reduce.concat)
        )
        # The cells are made before the stem, and the classifier last: the order in which their
        # weights are drawn.
        cells = []
        for position in positions:
            cell = cell_of(genotype, position.kind)
            cells.append(CellModule(cell, position, choose=choose, drop_path=drop_path))
        self.auxiliary_after = auxiliary_position(layers)
        self.stem = stem(channels)
        self.cells = nn.ModuleList(cells)
        middle_channels = cells[self.auxiliary_after].outputs
        self.auxiliary = auxiliary_head(middle_channels, num_classes) if auxiliary else None
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(cells[-1].outputs, num_classes)

    def forward(self, images: Tensor) -> Tensor | AuxiliaryScores:
        """From images to class scores, in training with those of the auxiliary classifier."""
        # The first cell has no two cells before it: the stem is both of its inputs.
        older = newer = middle = self.stem(images).contiguous(memory_format=_MEMORY_FORMAT)
        for index, cell in enumerate(self.cells):
            older, newer = newer, cell(older, newer)
            if index == self.auxiliary_after:
                middle = newer
        scores: Tensor = self.classifier(self.pool(newer).flatten(1))
        if self.auxiliary is None or not self.training:
            return scores
        return AuxiliaryScores(scores, self.auxiliary(middle))


def auxiliary_head(channels: int, num_classes: int) -> nn.Sequential:
    """A small classifier for a feature map in the middle of a network."""
    first, second = AUXILIARY_CHANNELS
    return nn.Sequential(
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Conv2d(channels, first, 1, bias=False),
        nn.BatchNorm2d(first),
        nn.ReLU(),
        nn.Conv2d(first, second, 2, bias=False),  # [batch, second, 1, 1]
        nn.BatchNorm2d(second),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(second, num_classes),
    )


@checked
@counted_first("the network of cells", limits.ENTRIES)
def evaluation_network(
    genotype: Genotype,
    channels: int = 36,
    layers: int = 20,
    num_classes: int = 10,
    auxiliary: bool = False,
    drop_path: float = 0.0,
) -> EvaluationNetwork:
    """Build a classifier of stacked cells for images of 3 channels, 4 x 4 pixels or more.

    Args:
        genotype: the two cells.
        channels: channels of the nodes before the first reduction.
        layers: number of cells.
        num_classes: number of classes.
        auxiliary: in training, also return the class scores of an auxiliary classifier after the
            second reduction cell.
        drop_path: probability with which an operation is left out in training, image by image.

    Shapes:
        images: [batch, 3, height, width]
        output: [batch, num_classes]

    Returns:
        The network, with weights drawn from torch's own generator.

    Raises:
        ModelError: a number is out of range (``model-options``).

    Example:
        >>> network = evaluation_network(GENOTYPES["DARTS_V2"], channels=4, layers=3)
        >>> network(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    return EvaluationNetwork(genotype, channels, layers, num_classes, auxiliary, drop_path)


@checked
def named_network(
    genotype: str,
    channels: int = 36,
    layers: int = 20,
    num_classes: int = 10,
    auxiliary: bool = False,
    drop_path: float = 0.0,
) -> EvaluationNetwork:
    """``evaluation_network`` by the name of a genotype, for references to models and recipes.

    Args:
        genotype: one of the names in ``GENOTYPES``, or a file.
        channels: channels of the nodes before the first reduction.
        layers: number of cells.
        num_classes: number of classes.
        auxiliary: in training, also return the class scores of an auxiliary classifier.
        drop_path: probability with which an operation is left out in training.

    Returns:
        The network, with weights drawn from torch's own generator.

    Raises:
        ModelError: there is no such genotype (``unknown-genotype``), or a number is out of range
            (``model-options``).
        SpecError: the file holds no genotype.

    Example:
        >>> named_network("DARTS_V2", channels=4, layers=3)
    """
    return evaluation_network(
        find_genotype(genotype), channels, layers, num_classes, auxiliary, drop_path
    )
