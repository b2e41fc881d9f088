"""A recipe: everything that a run is made of, as one YAML file that can be read, kept and run again.

``log.jsonl`` and ``result.json`` say what came out of a run; the recipe says what went in.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fxgrow.data import Splits, load_data
from fxgrow.documents import limits
from fxgrow.errors import DataError
from fxgrow.growth import ALL_WIDTHS, Budget, Scope
from fxgrow.methods import Firefly, RandomGrowth, Splitting
from fxgrow.spec import Document, parse_yaml, read_text, yaml_text
from fxgrow.training.settings import RunSettings

RECIPE_VERSION: Literal[1] = 1
_MAX_FILE_BYTES = 2**20


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataChoice(_Frozen):
    """Which images: the data set's name, where its files lie, and what is asked of it (None: the data set's own).

    ``limit``: that many training images; ``classes``: of ``shapes``; ``size``: side of the images.
    """

    name: str = "digits"
    root: Path | None = None
    limit: int | None = Field(default=None, ge=0, le=limits.IMAGES)
    classes: int | None = Field(default=None, ge=0, le=limits.CLASSES)
    size: int | None = Field(default=None, ge=0, le=limits.SIDE)

    @model_validator(mode="after")
    def _fits(self) -> "DataChoice":
        _check_pixels(self.name, self.limit, None, self.size)
        return self

    def load(self, channels: int | None, size: int | None, seed: int) -> Splits:
        """The images, of ``channels`` x ``size`` x ``size`` (None: the data set's default). Raises ``DataError``."""
        _check_pixels(self.name, self.limit, channels, size)
        return load_data(
            self.name,
            root=self.root,
            seed=seed,
            channels=channels,
            size=size,
            classes=self.classes,
            train_size=self.limit,
        )


MADE_IMAGES = 5000
"""Training images of ``shapes`` if nobody says how many; those of the other data sets lie in files."""
COLOURS, SIDE = 3, 32
"""Channels and side of images if nobody says."""


def _check_pixels(name: str, limit: int | None, channels: int | None, size: int | None) -> None:
    """Before any image is made or read. Raises ``DataError`` (``option``)."""
    images = limit if limit is not None else MADE_IMAGES if name == "shapes" else 1
    side = SIDE if size is None else size
    if images * (channels or COLOURS) * side * side > limits.PIXELS:
        raise DataError(
            "option",
            f"{images} images of {side} x {side} are more than {limits.PIXELS} numbers, which nothing is loaded for; "
            "ask for fewer or smaller ones",
        )


class FireflyMethod(_Frozen):
    """Firefly descent."""

    name: Literal["Firefly"] = "Firefly"
    settings: Firefly = Firefly()


class RandomMethod(_Frozen):
    """The random control."""

    name: Literal["RandomGrowth"] = "RandomGrowth"
    settings: RandomGrowth = RandomGrowth()


class SplittingMethod(_Frozen):
    """Splitting steepest descent."""

    name: Literal["Splitting"] = "Splitting"
    settings: Splitting = Splitting()


# Name and settings, as the history in a spec records a method.
MethodChoice = Annotated[
    FireflyMethod | RandomMethod | SplittingMethod, Field(discriminator="name")
]


class Recipe(_Frozen):
    """A run: the model (a reference, as on the command line), the data, and how it is trained and grown.

    ``scope``: which widths may grow and which grow alike; ``lower``: make the heads of fused attention growable first.
    ``notes``: what a reader should know, by topic; a recipe of a paper's experiment says which values are the paper's
    and which are ours. ``settings.seed`` draws the weights, the order of the images, the candidates and procedural
    data.
    """

    schema_version: Literal[1]
    model: str
    data: DataChoice = DataChoice()
    settings: RunSettings = RunSettings()
    method: MethodChoice = FireflyMethod()
    budget: Budget
    scope: Scope = ALL_WIDTHS
    lower: bool = False
    notes: dict[str, str] = Field(default={})


RECIPE_DOCUMENT = Document("recipe", Recipe, RECIPE_VERSION, parse=parse_yaml)


def read_recipe(path: Path) -> Recipe:
    """The recipe in a YAML file. Raises ``SpecError``, and what its settings raise: ``TrainingError``, ``BudgetError``.

    Names are looked up when it is run: that of the model, of the data, of patterns.
    """
    return RECIPE_DOCUMENT.read(read_text(path, _MAX_FILE_BYTES), str(path))


def recipe_text(recipe: Recipe) -> str:
    """The recipe as YAML with every setting in it, so that it stays the same when a default changes."""
    return yaml_text(recipe.model_dump(mode="json", exclude_none=True))
