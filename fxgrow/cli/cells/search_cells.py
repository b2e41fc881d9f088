"""``fxgrow cells search``: find cells by growing them, or by one of the ways that this is compared with."""

from typing import Annotated, Any

import typer
from rich.text import Text

from fxgrow.cells import SEARCHES, SearchEpoch, SearchResult, SearchSpace, genotype_text, to_text
from fxgrow.cli import arguments
from fxgrow.cli.arguments import (
    AsJsonOption,
    ClassesOption,
    DataOption,
    DataRootOption,
    DeviceOption,
    ForceOption,
    LimitOption,
    OutOption,
    SizeOption,
    build_settings,
)
from fxgrow.cli.console import console, print_parts, print_text
from fxgrow.data import DataSet
from fxgrow.errors import TrainingError
from fxgrow.report import count_text, number_text, seconds_text
from fxgrow.training import SEARCHED, DataChoice, run_directory

_GENOTYPE_FILE = "genotype.json"


def search_cells(
    out: OutOption,
    method: Annotated[str, typer.Option(metavar="NAME", help=", ".join(SEARCHES))] = "firefly",
    data: DataOption = "digits",
    data_root: DataRootOption = None,
    epochs: Annotated[
        int | None, typer.Option(help="epochs of training", show_default="the method's")
    ] = None,
    grow_every: Annotated[
        int | None, typer.Option(help="epochs between growth steps (firefly)", show_default="10")
    ] = None,
    cells: Annotated[int, typer.Option(help="cells of the network that is searched in")] = 5,
    channels: Annotated[int, typer.Option(help="of its nodes before the first reduction")] = 16,
    nodes: Annotated[int, typer.Option(help="nodes of a cell")] = 4,
    batch_size: Annotated[
        int | None, typer.Option(help="images per step", show_default="the method's")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="of the weights, the order of images and the candidates")
    ] = 0,
    limit: LimitOption = None,
    classes: ClassesOption = None,
    size: SizeOption = None,
    device: DeviceOption = "cpu",
    force: ForceOption = False,
    as_json: AsJsonOption = False,
) -> None:
    """Search cells on data: weights on one half of the training images, judgement on the other; leave a directory."""
    chosen = _method(method, epochs=epochs, grow_every=grow_every, batch_size=batch_size)
    space = build_settings(SearchSpace, cells=cells, channels=channels, nodes=nodes)
    choice = build_settings(
        DataChoice, name=data, root=data_root, limit=limit, classes=classes, size=size
    )
    place = arguments.resolve_device(device)
    with run_directory(out, replace=force) as staging:
        train, valid = _halves(choice.load(3, size, seed).train.to(place))
        result = chosen.search(space, train, valid, seed=seed, callback=_say)
        (staging / SEARCHED).write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (staging / _GENOTYPE_FILE).write_text(genotype_text(result.genotype), encoding="utf-8")
    if as_json:
        print_text(result.model_dump_json(indent=1))
    else:
        print_parts(*(Text(line) for line in (*_lines(result), f"written to {out}")))


def _method(name: str, **said: Any) -> Any:
    if name not in SEARCHES:
        raise TrainingError(
            "bad-setting", f"--method {name} is no way to search; say one of {', '.join(SEARCHES)}"
        )
    start = SEARCHES[name]
    foreign = next(
        (
            key
            for key, value in said.items()
            if value is not None and key not in type(start).model_fields
        ),
        None,
    )
    if foreign is not None:
        raise TrainingError(
            "bad-setting", f"--{foreign.replace('_', '-')} is no setting of {name}; leave it out"
        )
    return build_settings(
        type(start), **{**start.model_dump(), **{k: v for k, v in said.items() if v is not None}}
    )


def _halves(images: DataSet) -> tuple[DataSet, DataSet]:
    """Every other image, so that both halves hold all classes of data sets that are sorted."""
    return images.pick(range(0, len(images), 2)), images.pick(range(1, len(images), 2))


def _say(epoch: SearchEpoch) -> None:
    spent = f"{seconds_text(epoch.seconds)}, {count_text(epoch.multiply_adds)} multiply-adds"
    console(stderr=True).print(
        Text(f"epoch {epoch.epoch}  loss {number_text(epoch.train_loss)}  {spent} so far")
    )


def _lines(result: SearchResult) -> tuple[str, ...]:
    spent = f"{seconds_text(result.seconds)} ({seconds_text(result.cpu_seconds)} of processors)"
    return (
        to_text(result.genotype),
        f"fingerprint {result.genotype.fingerprint}",
        f"found by {result.method} in {spent}, {count_text(result.multiply_adds)} multiply-adds",
    )
