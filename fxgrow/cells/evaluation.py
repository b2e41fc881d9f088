"""The network that a genotype is judged by: its cells stacked, a classifier at the end.

References: Liu, Simonyan, Yang, "DARTS", ICLR 2019, Sec. 3.2 and App. A.2 (20 cells, 36 channels, a second classifier
whose loss counts 0.4); Szegedy et al. 2015 (second classifiers). How we differ: the second classifier pools to 2 x 2
whatever the size of its input, where theirs takes averages of 5 x 5, which overlap, of a map of 8 x 8; so images
smaller than 32 x 32 work. The numbers of parameters are the same.
"""

from typing import NamedTuple

from torch import Tensor, nn

from fxgrow.cells.cell import CellModule, OperationBuilder, known_operation
from fxgrow.cells.genotype import Genotype
from fxgrow.cells.genotypes.lookup import find_genotype
from fxgrow.cells.stack import _MEMORY_FORMAT, auxiliary_position, cell_of, cell_positions, stem
from fxgrow.errors import ModelError

AUXILIARY_CHANNELS = (128, 768)


class AuxiliaryScores(NamedTuple):
    """Class scores, batch x classes, of the classifier at the end and of the one on the way."""

    logits: Tensor
    auxiliary: Tensor


class EvaluationNetwork(nn.Module):
    """Built by ``evaluation_network``."""

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
        stack = cell_positions(
            layers, channels, len(genotype.normal.concat), len(genotype.reduce.concat)
        )
        cells = [
            CellModule(cell_of(genotype, place.kind), place, choose=choose, drop_path=drop_path)
            for place in stack
        ]
        after = auxiliary_position(layers)
        self.auxiliary_after = after
        self.stem = stem(channels)
        self.cells = nn.ModuleList(cells)
        self.auxiliary = auxiliary_head(cells[after].outputs, num_classes) if auxiliary else None
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(cells[-1].outputs, num_classes)

    def forward(self, images: Tensor) -> Tensor | AuxiliaryScores:
        """Batch x 3 x height x width to class scores; in training ``Scores``, if there is a second classifier."""
        older = newer = middle = self.stem(images).contiguous(memory_format=_MEMORY_FORMAT)
        for index, cell in enumerate(self.cells):
            older, newer = newer, cell(older, newer)
            middle = newer if index == self.auxiliary_after else middle
        scores: Tensor = self.classifier(self.pool(newer).flatten(1))
        if self.auxiliary is None or not self.training:
            return scores
        return AuxiliaryScores(scores, self.auxiliary(middle))


def auxiliary_head(channels: int, num_classes: int) -> nn.Sequential:
    """A small classifier for a map in the middle of a network."""
    first, second = AUXILIARY_CHANNELS
    return nn.Sequential(
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Conv2d(channels, first, 1, bias=False),
        nn.BatchNorm2d(first),
        nn.ReLU(),
        nn.Conv2d(first, second, 2, bias=False),
        nn.BatchNorm2d(second),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(second, num_classes),
    )


def evaluation_network(
    genotype: Genotype,
    channels: int = 36,
    layers: int = 20,
    num_classes: int = 10,
    auxiliary: bool = False,
    drop_path: float = 0.0,
) -> EvaluationNetwork:
    """A classifier of ``layers`` cells for images of 3 channels, 4 x 4 pixels or more.

    ``channels``: of the nodes before the first reduction. It gives class scores, batch x ``num_classes``; in training
    with ``auxiliary`` also those of a second classifier after the second reduction cell. ``drop_path``: with which
    probability an operation is left out of a step of training. Raises ``ModelError`` (``model-options``) if a number is
    out of range.
    """
    if num_classes < 1:
        raise ModelError(
            "model-options", f"{num_classes} classes cannot be told apart; ask for 1 or more"
        )
    return EvaluationNetwork(genotype, channels, layers, num_classes, auxiliary, drop_path)


def named_network(
    genotype: str,
    channels: int = 36,
    layers: int = 20,
    num_classes: int = 10,
    auxiliary: bool = False,
    drop_path: float = 0.0,
) -> EvaluationNetwork:
    """``evaluation_network`` of a genotype's name or file, for references to models and so for recipes."""
    return evaluation_network(
        find_genotype(genotype), channels, layers, num_classes, auxiliary, drop_path
    )
