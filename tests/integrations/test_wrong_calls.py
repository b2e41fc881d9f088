"""What the trainers of other libraries are given, with wrong values: only errors of fxgrow, before anything is trained."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import fxgrow
from fxgrow.errors import ArgumentError, FxgrowError, ModelError, SpecError
from fxgrow.training import AtEpochs
from tests.wrong_calls import (
    Right,
    Row,
    failures_of,
    is_checked_kind,
    print_nothing,
    public_methods,
)

pytestmark = pytest.mark.filterwarnings("ignore")

NEEDED = {"lightning": "lightning.pytorch", "transformers": "transformers"}
LOSS = nn.functional.cross_entropy


def module_of(name: str) -> ModuleType:
    pytest.importorskip(NEEDED[name])
    return importlib.import_module(f"fxgrow.integrations.{name}")


def options() -> dict[str, Any]:
    """What a ``Grower`` takes and a trainer does not know."""
    return {
        "method": None, "budget": fxgrow.Budget(neurons=1), "example_inputs": None, "inplace": True, "schedulers": (),
        "state": "padded", "new_entry_rate": None, "scope": fxgrow.Scope(), "memory_limit": None, "grow_frozen": False,
        "accept_no_gain": True, "epochs": 9, "grow_steps": 2, "listeners": (print_nothing,),
    }  # fmt: skip


def callback_row(**more: Any) -> dict[str, Any]:
    own = {"loss_fn": LOSS, "when": AtEpochs(epochs=(1,)), "monitor": "a", "monitor_accuracy": "b"}
    return {**own, "batches": list, "seed": 0, **options(), **more}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3))


def growing() -> Any:
    """A Lightning module that has not grown."""
    made = module_of("lightning").GrowingModule()
    made.net = network()
    return made


INPUTS = torch.zeros(2, 3)


@cache
def grown_state() -> dict[str, Any]:
    """What a grower says whose network has grown once."""
    grower = fxgrow.Grower(
        network(), loss_fn=LOSS, when=AtEpochs(epochs=(1,)), method=fxgrow.ZeroOutgoing(),
        budget=fxgrow.Budget(neurons=2), accept_no_gain=True,
    )  # fmt: skip
    assert grower.step([(torch.ones(2, 3), torch.tensor([0, 1]))], loss=1.0) is not None
    return grower.state_dict()


def checkpoint(**values: Any) -> dict[str, Any]:
    """A Lightning checkpoint of a network that has grown once."""
    growth = {"network": "net", "example_inputs": (INPUTS,), "grower": grown_state()}
    return {"fxgrow": {**growth, **values}}


def kept_state() -> dict[str, Any]:
    made = module_of("lightning").GrowthCallback("net", **callback_row())
    state: dict[str, Any] = made.state_dict()
    return state


ROWS: Mapping[str, Mapping[str, Row]] = {
    "lightning": {
        "GrowingModule": lambda r: {},
        "GrowingModule.on_save_checkpoint": lambda r: {"self": growing(), "checkpoint": {}},
        "GrowingModule.on_load_checkpoint": lambda r: {"self": growing(), "checkpoint": checkpoint()},
        "GrowthCallback": lambda r: callback_row(network="net"),
        "GrowthCallback.load_state_dict": lambda r: {
            "self": module_of("lightning").GrowthCallback("net", **callback_row()), "state": kept_state(),
        },
    },
    "transformers": {
        "GrowthTrainerCallback": lambda r: callback_row(),
        "smoothed_loss": lambda r: {"epsilon": 0.1},
        "regrow_from_checkpoint": lambda r: {
            "model": nn.Linear(2, 2), "checkpoint": r.directory, "example_inputs": torch.zeros(1, 2),
        },
    },
}  # fmt: skip
CALLED_BY_TRAINERS = {"own_loss", "setup"}
"""What a trainer or a growth calls, with what it made itself; hooks (``on_...``) of callbacks, too."""
CASES = [(module, name) for module, rows in ROWS.items() for name in rows]


def callables_of(name: str) -> dict[str, Callable[..., Any]]:
    """The public functions and classes of one integration, and the methods that users may call."""
    module = module_of(name)
    found: dict[str, Callable[..., Any]] = {}
    for public, value in vars(module).items():
        is_own = getattr(value, "__module__", "") == module.__name__
        if public.startswith("_") or not is_own or not is_checked_kind(value):
            continue
        found[public] = value
        if inspect.isclass(value):
            found.update(public_methods(public, value))
    return found


def is_called_by_trainers(name: str) -> bool:
    kind, _, method = name.rpartition(".")
    is_hook = method.startswith("on_") and kind.endswith("Callback")
    return is_hook or method in CALLED_BY_TRAINERS


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Right:
    return Right(tmp_path_factory.mktemp("right"))


@pytest.mark.parametrize("module", sorted(ROWS))
def test_everything_public_has_a_row(module: str) -> None:
    wanted = {name for name in callables_of(module) if not is_called_by_trainers(name)}
    assert wanted == ROWS[module].keys()


@pytest.mark.parametrize(("module", "name"), CASES)
def test_wrong_values(
    module: str, name: str, right: Right, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # texts such as "x" are paths there
    failures = failures_of(name, callables_of(module)[name], ROWS[module][name], right)
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("module", sorted(ROWS))
@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            {"grow_step": 2},
            "has no option 'grow_step', and its grower has none either; give some of",
        ),
        ({"model": nn.Linear(2, 2)}, "has no option 'model'"),
        ({"grow_steps": 0}, "cannot use grow_steps=0; give a whole number from 1"),
        ({"budget": 0.3}, "cannot use budget=0.3; give a Budget or None"),
        (
            {"inplace": False},
            "cannot use inplace=False, for the trainer would go on with the model",
        ),
    ],
    ids=lambda given: "-".join(given) if isinstance(given, dict) else "",
)
def test_options_of_the_grower_are_checked_where_the_callback_is_made(
    module: str, more: dict[str, Any], sentence: str
) -> None:
    name = "GrowthCallback" if module == "lightning" else "GrowthTrainerCallback"
    row = ROWS[module][name](None)  # type: ignore[arg-type] # what is made here needs no files
    with pytest.raises(ArgumentError, match=sentence) as caught:
        getattr(module_of(module), name)(**{**row, **more})
    assert caught.value.code == "bad-argument"
    assert str(caught.value).startswith(f"{name}() ")


def test_a_network_that_is_not_there_stops_a_fit_before_it_trains() -> None:
    module_of("lightning")
    from tests.integrations.fits import Classifier, network, train

    growth = module_of("lightning").GrowthCallback("net", loss_fn=LOSS, when=AtEpochs(epochs=(1,)))
    classifier, start = Classifier(), network().state_dict()
    with pytest.raises(
        ModelError, match="Classifier has no module 'net', so nothing could grow"
    ) as caught:
        train(classifier, growth)
    assert caught.value.code == "unknown-module"
    assert all(torch.equal(classifier.network.state_dict()[key], start[key]) for key in start)


@pytest.mark.parametrize(
    "values",
    [
        {"network": 3}, {"network": None}, {"network": "net.net"}, {"example_inputs": None}, {"grower": None},
        {"grower": [1]}, {"grower": {}}, {"grower": {"grown": 3}}, {"grower": {"grown": [3]}},
        {"grower": {"grown": [{"widths": "x"}]}}, {"grower": {"grown": [{}], "schema_version": 9}},
        {"example_inputs": (torch.zeros(2, 5),)}, {"example_inputs": "x"}, {"network": "net.0"},
    ],
    ids=str,
)  # fmt: skip
def test_a_checkpoint_that_no_growing_module_has_written(values: dict[str, Any]) -> None:
    made = growing()
    with pytest.raises(FxgrowError):
        made.on_load_checkpoint(checkpoint(**values))
    assert made.net[0].out_features == 4 and made.growth is None
    made = growing()
    made.on_load_checkpoint(checkpoint())
    assert made.net[0].out_features == 6


@pytest.mark.parametrize("name", ["batches", "loss", "validation"])
@pytest.mark.parametrize("value", [None, "x", [1], {"a": 1}, 1.5])
def test_a_state_that_no_callback_has_written(name: str, value: object) -> None:
    made, state = module_of("lightning").GrowthCallback("net", **callback_row()), kept_state()
    with pytest.raises(SpecError):
        made.load_state_dict({**state, name: value})
    del state[name]
    with pytest.raises(SpecError):
        made.load_state_dict(state)


def test_a_model_without_inputs_of_its_own_is_told_so(tmp_path: Path) -> None:
    regrow = module_of("transformers").regrow_from_checkpoint
    with pytest.raises(ArgumentError, match="Linear has no dummy_inputs; give the arguments"):
        regrow(nn.Linear(2, 2), tmp_path)
