"""A recipe: everything that a run is made of, as one YAML file that can be read and run again.

``log.jsonl`` and ``result.json`` hold what came out of a run; the recipe holds what went in.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from fxgrow.argument_checks import checked
from fxgrow.data import Splits, load_data, require_root_is_read
from fxgrow.documents import Settings, limits
from fxgrow.errors import DataError
from fxgrow.growth import ALL_WIDTHS, Budget, Scope
from fxgrow.methods import MethodConfig
from fxgrow.spec import Document, parse_yaml, read_text, yaml_text
from fxgrow.training.migrations import rename_memory
from fxgrow.training.settings import RunSettings

RECIPE_VERSION: Literal[2] = 2
_MAX_FILE_BYTES = 2**20  # a longer file is refused before it is parsed


class DataChoice(Settings):
    """A data set by name, and what is asked of it. None: what the data set has by itself.

    Args:
        name: name of the data set, one of ``fxgrow.data.SOURCES``.
        root: directory that holds its files.
        limit: number of training images.
        classes: number of classes, of ``shapes`` alone.
        size: side of the square images in pixels.

    Raises:
        DataError: the images would not fit into the limits (``option``).
        ArgumentError: ``bad-setting``: a value is out of range.

    Example:
        >>> DataChoice(name="digits", limit=97).load(channels=1, size=8, seed=0).shape
        (1, 8, 8)
    """

    name: str = "digits"
    root: Path | None = None
    limit: int | None = Field(default=None, ge=0, le=limits.IMAGES)
    classes: int | None = Field(default=None, ge=0, le=limits.CLASSES)
    size: int | None = Field(default=None, ge=0, le=limits.SIDE)

    @model_validator(mode="after")
    def _fits(self) -> "DataChoice":
        # Refused when the recipe is read, not only when the images are loaded.
        _check_pixels(self.name, self.limit, None, self.size)
        require_root_is_read(self.name, self.root)
        return self

    @checked
    def load(self, channels: int | None, size: int | None, seed: int) -> Splits:
        """The images, of ``channels`` x ``size`` x ``size`` (None: the data set's default).

        ``seed`` draws procedural data. Raises ``DataError`` if they cannot be had.
        """
        # Again, with what the model asks for.
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


GENERATED_IMAGES = 5000
"""Training images of ``shapes`` by default; those of the other data sets lie in files."""
DEFAULT_CHANNELS = 3
DEFAULT_SIDE = 32


def _check_pixels(name: str, limit: int | None, channels: int | None, size: int | None) -> None:
    """Before any image is made or read. Raises ``DataError`` (``option``)."""
    if limit is not None:
        images = limit
    elif name == "shapes":
        images = GENERATED_IMAGES
    else:
        images = 1  # files hold what they hold, and are checked when they are read
    side = DEFAULT_SIDE if size is None else size
    if images * (channels or DEFAULT_CHANNELS) * side * side > limits.PIXELS:
        raise DataError(
            "option",
            f"{images} images of {side} x {side} are more than {limits.PIXELS} numbers, which "
            "nothing is loaded for; ask for fewer or smaller ones",
        )


class Recipe(Settings):
    """A run: the model, the data, and how it is trained and grown.

    Args:
        schema_version: version of the document.
        model: a reference to the model, as on the command line; looked up when the recipe is run.
        data: the images.
        settings: how it is trained; ``settings.seed`` draws the weights, the order of the images,
            the candidates and procedural data.
        method: the growth method with its settings.
        budget: how much a growth step may add.
        scope: which widths may grow, and which grow alike.
        lower: make the heads of fused attention growable first.
        notes: what a reader should know, by topic. A recipe of a paper's experiment tells here
            which values are the paper's and which are ours.

    Raises:
        TrainingError: the settings make no run.
        BudgetError: the budget allows nothing.
        ArgumentError: ``bad-setting``: a value is out of range.

    Example:
        >>> recipe = Recipe(schema_version=RECIPE_VERSION, model="timm:resnet10t",
        ...                 budget=fxgrow.Budget(neurons=0.3))
        >>> Path("recipe.yaml").write_text(recipe_text(recipe))
    """

    schema_version: Literal[2]
    model: str
    data: DataChoice = DataChoice()
    settings: RunSettings = RunSettings()
    method: MethodConfig = MethodConfig()
    budget: Budget
    scope: Scope = ALL_WIDTHS
    lower: bool = False
    notes: dict[str, str] = Field(default={})


RECIPE_DOCUMENT = Document("recipe", Recipe, RECIPE_VERSION, {1: rename_memory}, parse=parse_yaml)


@checked
def read_recipe(path: Path) -> Recipe:
    """Read a recipe, of the present version or an older one.

    The names in it are looked up when it is run: that of the model, of the data, of widths.

    Args:
        path: a YAML file.

    Returns:
        The recipe.

    Raises:
        SpecError: it cannot be read; with the path of what is wrong.
        TrainingError: its settings make no run.
        BudgetError: its budget allows nothing.

    Example:
        >>> read_recipe(Path("specs/recipes/demo.yaml")).data.name
        'digits'
    """
    return RECIPE_DOCUMENT.read(read_text(path, _MAX_FILE_BYTES), str(path))


@checked
def recipe_text(recipe: Recipe) -> str:
    """A recipe as YAML, with every setting written out.

    The text means the same after a default has changed. Settings that are None are left out, since
    recipes have no word for it.

    Args:
        recipe: the recipe.

    Returns:
        The text of its file.

    Example:
        >>> print(recipe_text(recipe))
        schema_version: 2
        model: timm:resnet10t
        ...
    """
    return yaml_text(recipe.model_dump(mode="json", exclude_none=True))
