"""``fxgrow cells search``: search cells by growing them, or by a baseline method."""

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from fxgrow.cells import (
    SEARCHES,
    SearchEpoch,
    SearchMethod,
    SearchResult,
    SearchSpace,
    genotype_text,
    to_text,
)
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
    SeedOption,
    SizeOption,
    build_method,
    build_settings,
    find_method,
)
from fxgrow.cli.cells import arguments as options
from fxgrow.cli.console import console, print_parts, print_text
from fxgrow.data import DataSet
from fxgrow.report import count_text, number_text, seconds_text
from fxgrow.surgery import NewEntryRate
from fxgrow.training import SEARCHED, DataChoice, run_directory

_GENOTYPE_FILE = "genotype.json"
_COLOR_CHANNELS = 3


def search_cells(
    out: OutOption,
    method: options.SearchMethodOption = "firefly",
    data: DataOption = "digits",
    data_root: DataRootOption = None,
    epochs: options.SearchEpochsOption = None,
    grow_every: options.GrowEveryOption = None,
    cells: options.SearchCellsOption = 5,
    channels: options.SearchChannelsOption = 16,
    nodes: options.NodesOption = 4,
    batch_size: options.SearchBatchSizeOption = None,
    state: options.SearchStateOption = None,
    new_entry_rate: options.NewEntryRateOption = None,
    seed: SeedOption = 0,
    limit: LimitOption = None,
    classes: ClassesOption = None,
    size: SizeOption = None,
    device: DeviceOption = "cpu",
    force: ForceOption = False,
    as_json: AsJsonOption = False,
) -> None:
    """Search cells: weights learn from half of the training images, cells are judged on the rest.

    Writes a complete directory with the result or none.
    """
    schedule = {"epochs": epochs, "grow_every": grow_every, "batch_size": batch_size}
    rate = (
        None if new_entry_rate is None else build_settings(NewEntryRate, multiplier=new_entry_rate)
    )
    search_method = _search_method(method, schedule | {"state": state, "new_entry_rate": rate})
    space = build_settings(SearchSpace, cells=cells, channels=channels, nodes=nodes)
    choice = build_settings(
        DataChoice, name=data, root=data_root, limit=limit, classes=classes, size=size
    )
    torch_device = arguments.resolve_device(device)
    with run_directory(out, replace=force) as staging:
        images = choice.load(_COLOR_CHANNELS, size, seed).train.to(torch_device)
        train, valid = _split_in_half(images)
        result = search_method.search(space, train, valid, seed=seed, callback=_print_epoch)
        document = result.model_dump_json(indent=1)
        (staging / SEARCHED).write_text(document + "\n", encoding="utf-8")
        (staging / _GENOTYPE_FILE).write_text(genotype_text(result.genotype), encoding="utf-8")
    if as_json:
        print_text(document)
        return
    for line in (*_describe(result), f"written to {out}"):
        print_parts(Text(line))


def _search_method(name: str, values: Mapping[str, Any]) -> SearchMethod:
    """The method of that name, with its own settings where no option was given (None)."""
    preset = find_method(name, SEARCHES)
    # A preset need not have the defaults of its class: two methods may share one class.
    kind: Any = type(preset)
    method: SearchMethod = build_method(name, kind, values, defaults=preset.model_dump())
    return method


def _split_in_half(images: DataSet) -> tuple[DataSet, DataSet]:
    # Every other image, so that both halves hold all classes of data sets that are sorted.
    count = len(images)
    return images.pick(range(0, count, 2)), images.pick(range(1, count, 2))


def _print_epoch(epoch: SearchEpoch) -> None:
    seconds, multiply_adds = seconds_text(epoch.seconds), count_text(epoch.multiply_adds)
    line = (
        f"epoch {epoch.epoch}  loss {number_text(epoch.train_loss)}  {seconds}, "
        f"{multiply_adds} multiply-adds so far"
    )
    console(stderr=True).print(Text(line))


def _describe(result: SearchResult) -> tuple[str, ...]:
    time = f"{seconds_text(result.seconds)} ({seconds_text(result.cpu_seconds)} of processors)"
    multiply_adds = f"{count_text(result.multiply_adds)} multiply-adds"
    return (
        to_text(result.genotype),
        f"fingerprint {result.genotype.fingerprint}",
        f"found by {result.method} in {time}, {multiply_adds}",
    )
