"""What does not fit into memory is refused with the number of bytes, before any of it is taken."""

import gc
import importlib
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fxgrow
from fxgrow import memory
from fxgrow.cells import GENOTYPES, FireflySearch, SearchSpace, evaluation_network
from fxgrow.continual.networks import vgg
from fxgrow.data import DataSet
from fxgrow.errors import BudgetError, FxgrowError, ModelError, TrainingError
from fxgrow.methods import RandomGrowth
from fxgrow.training.step_memory import require_step_memory

LINEAR = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
VECTOR = torch.zeros(2, 6)
CONVOLUTIONS = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1))
PICTURE = torch.zeros(1, 3, 224, 224)


def test_what_can_be_taken_is_the_least_of_all_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container, info = tmp_path / "memory.max", tmp_path / "meminfo"
    monkeypatch.setattr(memory, "CGROUP_LIMIT", container)
    monkeypatch.setattr(memory, "MEMORY_INFO", info)
    monkeypatch.setattr(
        resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    )
    machine = memory.available_memory()
    assert machine > 2**28
    for text, found in (("4096\n", 4096), ("max\n", machine), (f"{2**62}\n", machine)):
        container.write_text(text)
        assert memory.available_memory() == found
    info.write_text("MemTotal:       900 kB\nMemAvailable:       7 kB\n")
    assert memory.available_memory() == 7 * 1024
    monkeypatch.setattr(resource, "getrlimit", lambda _: (5000, 5000))
    assert memory.available_memory() == 5000


@pytest.mark.parametrize("how", ["split", "new"])
@pytest.mark.parametrize("amount", [10**9, 10**12, 2**53])
def test_a_width_of_a_billion_neurons(how: Any, amount: int) -> None:
    before = [tuple(parameter.shape) for parameter in LINEAR.parameters()]
    with pytest.raises(BudgetError) as caught:
        fxgrow.widen(LINEAR, {"0": amount}, VECTOR, how=how, inplace=True)
    assert caught.value.code == "too-large"
    needed, there = map(int, re.findall(r"\d{9,}", str(caught.value)))
    assert needed > amount * 4 * (6 + 1 + 3)
    assert there == pytest.approx(memory.available_memory(), rel=0.5)
    assert [tuple(parameter.shape) for parameter in LINEAR.parameters()] == before


def test_rounding_up_to_a_billion() -> None:
    with pytest.raises(BudgetError, match="bytes of memory"):
        fxgrow.widen(LINEAR, {"0": 1}, VECTOR, round_to=10**9)


def test_the_values_of_a_pass_count_too() -> None:
    """Ten times the memory for images of 10^6 channels, whose weights are small."""
    with pytest.raises(BudgetError, match="the values of one pass"):
        fxgrow.widen(CONVOLUTIONS, {"0": 10**6}, PICTURE)


def test_a_wide_layer_beside_a_large_image_is_no_matter() -> None:
    """The largest value, the image, is not one that grows."""
    model = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1), nn.Tanh(), nn.Linear(1, 2)
    )
    wider = fxgrow.widen(model, {"2": 20_000}, torch.zeros(1, 3, 2048, 2048))
    assert wider.module[2].out_features == 20_001


def test_too_many_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fxgrow.memory.available_memory", lambda _=None: 10**5)
    batches = [(VECTOR, torch.tensor([0, 1]))]
    with pytest.raises(BudgetError, match=r"candidates need .* bytes") as caught:
        fxgrow.grow(LINEAR, batches, nn.functional.cross_entropy, method=RandomGrowth(new=4096))
    assert caught.value.code == "too-large"


def test_a_search_without_a_limit_is_cut_to_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Widths are searched in turn, as if ``memory_limit`` had been given."""
    model = nn.Sequential(*[nn.Linear(6, 6) for _ in range(6)])
    batches = [(torch.randn(64, 6), torch.zeros(64, dtype=torch.long))]

    def report(**options: Any) -> fxgrow.GrowthReport:
        method = fxgrow.Firefly(new=2, steps=1)
        loss = nn.functional.cross_entropy
        return fxgrow.grow(model, batches, loss, method=method, **options).report

    whole = report()
    assert len(whole.chunks) == 1
    limit = whole.peak_memory - 1
    module = importlib.import_module("fxgrow.growth.search")
    monkeypatch.setattr(module, "available_memory", lambda _: limit)
    assert report().chunks == report(memory_limit=limit).chunks != whole.chunks


def images(count: int = 4, side: int = 8) -> DataSet:
    return DataSet(torch.zeros(count, 3, side, side), torch.arange(count) % 2)


TOO_LARGE: list[tuple[str, Callable[[], Any], type[FxgrowError]]] = [
    ("classes", lambda: evaluation_network(GENOTYPES["DARTS_V2"], 16_000, 3, 10**6), ModelError),
    ("cells", lambda: evaluation_network(GENOTYPES["DARTS_V2"], 16_000, 1000), ModelError),
    ("vgg", lambda: vgg(4096, 10), ModelError),
    (
        "template",
        lambda: FireflySearch().search(SearchSpace(channels=16_000), images(), images()),
        ModelError,
    ),
]


@pytest.mark.parametrize(
    ("build", "error"), [row[1:] for row in TOO_LARGE], ids=[row[0] for row in TOO_LARGE]
)
def test_networks_of_fxgrow(
    build: Callable[[], Any], error: type[FxgrowError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda _=None: 2**31)
    with pytest.raises(error) as caught:
        build()
    assert caught.value.code == "too-large"


def test_counting_draws_no_random_numbers() -> None:
    """The weights are those that torch would draw if the network were not counted before."""
    torch.manual_seed(0)
    network = vgg(2, 3)
    torch.manual_seed(0)
    assert torch.equal(network[0].weight, nn.Conv2d(3, 2, 3, bias=False).weight)


def test_a_tensor_that_nothing_can_hold() -> None:
    with pytest.raises(ModelError) as caught, memory.bounded_model("net", 10):
        nn.Linear(10**9, 10**9)
    assert caught.value.code == "too-large"
    with (
        pytest.raises(RuntimeError, match="shapes cannot be multiplied"),
        memory.bounded_model("net", 10),
    ):
        LINEAR(torch.zeros(2, 5))


def test_activations_of_a_training_step() -> None:
    """Exactly what is kept: the input of the layer, of as many images as a batch has."""
    model = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False))
    data = torch.zeros(1000, 3, 8, 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "available_memory", lambda _=None: 50 * 3 * 8 * 8 * 4)
        require_step_memory(model, data, 50)
        with pytest.raises(TrainingError, match=r"51 images of \(3, 8, 8\) need 39168 bytes"):
            require_step_memory(model, data, 51)


def test_what_was_counted_does_not_stay_alive() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Softmax(1))
    gc.collect()
    before = sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())
    require_step_memory(model, torch.zeros(4, 3), 2)
    gc.collect()
    assert sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects()) == before


def test_a_model_without_meta_kernels_is_not_held_up() -> None:
    class Reads(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * float(x.sum())

    require_step_memory(Reads(), torch.zeros(2, 3), 2)
