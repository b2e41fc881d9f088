"""Methods by name: fxgrow's own, and those that other packages declare as entry points."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget, Firefly, RandomGrowth
from fxgrow.errors import GrowthError
from fxgrow.methods import (
    METHODS,
    NASH,
    TINY,
    Auto,
    AutoGrow,
    FastSplitting,
    GradientPool,
    GradMax,
    Net2Deeper,
    Net2Wider,
    NetworkMorphism,
    Splitting,
    VarianceTransfer,
    ZeroOutgoing,
    available_methods,
    find_method,
)
from tests.networks import images, network

CODE = '''
"""The method of another package: neurons split in their order, the first ones first."""

import torch
from pydantic import BaseModel, ConfigDict

from fxgrow.growth import Proposal, Scores


class InOrder(BaseModel):
    model_config = ConfigDict(frozen=True)
    eps: float = 0.05

    def propose(self, coupling):
        growable = [number for number, width in enumerate(coupling.widths) if width.growable]
        return Proposal(frozenset(growable), {})

    def search(self, grown, objective, generator, choose):
        candidates = grown.candidates
        with torch.no_grad():
            candidates.split_eps.fill_(self.eps)
        scores = torch.arange(len(candidates.split_eps), 0, -1.0, dtype=torch.float64)
        return Scores(scores, candidates.new_eps.detach())

    def refine(self, grown, objective):
        """Nothing."""


class NoModel:
    propose = search = refine = InOrder.propose


class Unfinished(BaseModel):
    propose = InOrder.propose
    search: int = 3


an_object = InOrder()
'''
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install packages whose entry points are given, as pip would leave them on the disk."""
    modules_before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)

    def installed(package: str, code: str = CODE, **methods: str) -> None:
        (tmp_path / f"{package}.py").write_text(code)
        information = tmp_path / f"{package}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
        )
        rows = [f"{name} = {place}" for name, place in methods.items()]
        (information / "entry_points.txt").write_text("\n".join(["[fxgrow.methods]", *rows, ""]))

    yield installed
    for name in set(sys.modules) - modules_before:
        if name.startswith("stranger"):
            del sys.modules[name]


def refused(name: str) -> GrowthError:
    with pytest.raises(GrowthError) as caught:
        find_method(name)
    return caught.value


def test_our_own_methods() -> None:
    assert dict(METHODS) == {
        "Auto": Auto,
        "AutoGrow": AutoGrow,
        "FastSplitting": FastSplitting,
        "Firefly": Firefly,
        "GradMax": GradMax,
        "GradientPool": GradientPool,
        "NASH": NASH,
        "Net2Deeper": Net2Deeper,
        "Net2Wider": Net2Wider,
        "NetworkMorphism": NetworkMorphism,
        "RandomGrowth": RandomGrowth,
        "Splitting": Splitting,
        "TINY": TINY,
        "VarianceTransfer": VarianceTransfer,
        "ZeroOutgoing": ZeroOutgoing,
    }
    for name, method in METHODS.items():
        assert find_method(name) is method
        assert name == method.__name__  # what a history records finds its method again
        assert available_methods()[name].endswith(f":{name}")


def test_a_method_of_another_package_grows_a_network(install: Install) -> None:
    install("stranger_growth", InOrder="stranger_growth:InOrder")
    assert list(available_methods()) == [*METHODS, "InOrder"]
    assert available_methods()["InOrder"] == "stranger_growth:InOrder"
    method = find_method("InOrder")(eps=0.02)
    batch = (images(8), torch.tensor([0, 1] * 4))
    growth = fxgrow.grow(
        network("chain"),
        [batch],
        F.cross_entropy,
        example_inputs=(images(),),
        method=method,
        budget=Budget(neurons=2),
    )
    assert sum(width.split for width in growth.report.widths) == 2
    assert not isinstance(growth.spec, Exception)
    record = growth.spec.history[-1].method
    assert (record.name, record.settings) == ("InOrder", {"eps": 0.02})
    assert find_method(record.name)(**record.settings) == method


def test_code_is_imported_only_when_its_name_is_asked_for(install: Install) -> None:
    install("stranger_first", InOrder="stranger_first:InOrder")
    install("stranger_broken", "raise SystemExit", Broken="stranger_broken:Broken")
    available_methods()
    find_method("Firefly")
    assert refused("Nobody").code == "unknown-method"
    assert not {"stranger_first", "stranger_broken"} & sys.modules.keys()
    find_method("InOrder")
    assert "stranger_first" in sys.modules and "stranger_broken" not in sys.modules


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("Fierfly", "Firefly"),
        ("splitting", "Splitting"),
        ("Order", "InOrder"),
        ("Splitting ", "Splitting"),
    ],
)
def test_an_unknown_name_is_answered_with_the_closest(
    name: str, closest: str, install: Install
) -> None:
    install("stranger_names", InOrder="stranger_names:InOrder")
    error = refused(name)
    assert error.code == "unknown-method"
    listed = ", ".join([*METHODS, "InOrder"])
    assert f"did you mean {closest!r}? There are {listed}" in str(error)


@pytest.mark.parametrize(
    "name", ["", "x" * 10**5, "\x1b[2J\n", "fxgrow.methods:Firefly", "os:system"]
)
def test_names_that_a_file_may_hold(name: str) -> None:
    error = refused(name)
    assert error.code == "unknown-method"
    assert len(str(error)) < 1000 and str(error).isprintable()


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("stranger_bad:NoModel", "is not a pydantic model class"),
        ("stranger_bad:an_object", "is not a pydantic model class"),
        ("stranger_bad:torch", "is not a pydantic model class"),
        ("stranger_bad", "is not a pydantic model class"),
        ("stranger_bad:Unfinished", "has no search and no refine"),
        ("stranger_bad:Missing", "cannot be imported"),
        ("stranger_missing:InOrder", "cannot be imported"),
        ("not a place", "cannot be imported"),
    ],
)
def test_what_is_no_method_is_refused(place: str, reason: str, install: Install) -> None:
    install("stranger_bad", Bad=place)
    error = refused("Bad")
    assert error.code == "bad-method"
    assert f"'Bad' ({place}, of stranger_bad) {reason}" in str(error)
    assert "; correct the package" in str(error)


@pytest.mark.parametrize(
    "code",
    [
        "import nothing_of_that_name",
        "1 +",
        "undefined",
        "{}[0]",
        "import pydantic\nclass Bad(pydantic.BaseModel):\n    x = 1",
    ],
)
def test_broken_code_is_a_bad_method(code: str, install: Install) -> None:
    install("stranger_syntax", code, Bad="stranger_syntax:Bad")
    error = refused("Bad")
    assert error.code == "bad-method"
    assert "cannot be imported" in str(error) and "\n" not in str(error)
    assert error.__cause__ is not None


def test_a_name_that_two_packages_declare(install: Install) -> None:
    install("stranger_one", InOrder="stranger_one:InOrder", Firefly="stranger_one:InOrder")
    install("stranger_two", InOrder="stranger_two:InOrder")
    error = refused("InOrder")
    assert error.code == "bad-method"
    assert "(stranger_one:InOrder and stranger_two:InOrder)" in str(error)
    assert find_method("Firefly") is Firefly, "a name of fxgrow's own cannot be taken"
    assert available_methods()["Firefly"] == "fxgrow.methods.firefly.method:Firefly"


def test_the_same_class_under_a_name_twice_is_one(install: Install) -> None:
    install("stranger_same", InOrder="stranger_same:InOrder")
    install("stranger_again", InOrder="stranger_same:InOrder")
    assert find_method("InOrder").__name__ == "InOrder"
