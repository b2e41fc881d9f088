"""The lists hold what torch has, everything comes back by name, and nothing that could do harm is on them."""

import operator
import subprocess

import pytest
import torch
import torchvision
from torch import nn

from fxgrow.errors import SpecError
from fxgrow.spec.allowlist import (
    class_named,
    function_named,
    is_attribute_path,
    is_identifier,
    name_of_class,
    name_of_function,
)
from fxgrow.spec.allowlist_tables import ATTRIBUTES, CLASSES, FUNCTIONS, METHODS

NONE: frozenset[str] = frozenset()
X = torch.ones(1)


def test_every_listed_name_exists_and_names_itself() -> None:
    """Of two names for one object (torch.conv1d, torch.nn.functional.conv1d) the first one in the tables counts."""
    for module, names in FUNCTIONS.items():
        for name in names:
            function = function_named(f"{module}.{name}", NONE)
            assert function_named(name_of_function(function, NONE), NONE) is function
    for module, names in CLASSES.items():
        for name in names:
            assert name_of_class(class_named(f"{module}.{name}", NONE), NONE) == f"{module}.{name}"
    assert all(hasattr(torch.Tensor, name) for name in METHODS | ATTRIBUTES)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (torch.flatten, "torch.flatten"),
        (operator.add, "operator.add"),
        (getattr, "builtins.getattr"),
        (nn.functional.gelu, "torch.nn.functional.gelu"),
        (
            nn.functional.max_pool2d,
            "torch.nn.functional.max_pool2d",
        ),  # a closure without a name of its own
        (torchvision.ops.stochastic_depth, "torchvision.ops.stochastic_depth"),
        (torch.ops.aten.add_.Tensor, "torch.ops.aten.add_.Tensor"),
    ],
)
def test_functions_are_named_as_users_write_them(function: object, name: str) -> None:
    assert name_of_function(function, NONE) == name
    assert function_named(name, NONE) is function


@pytest.mark.parametrize(
    "name",
    [
        "os.system", "builtins.eval", "builtins.exec", "builtins.__import__", "builtins.setattr", "builtins.open",
        "torch.load", "torch.save", "torch.hub.load", "torch.from_file", "torch.compile", "torch.set_num_threads",
        "torch.manual_seed", "torch.os.system", "torch.nn.functional.torch", "operator.methodcaller", "operator.call",
        "operator.attrgetter", "operator.delitem", "math.__loader__", "add", "", ".", "torch.", "torch.__dict__",
        "torch.ops.aten.from_file.default", "torch.ops.aten.set_.source_Storage", "torch.ops.aten.add.__class__",
        "torch.ops.aten.add.op", "torch.ops.aten.add", "torch.ops.load_library", "subprocess.Popen",
    ],
)  # fmt: skip
def test_a_function_off_the_list_is_refused(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        function_named(name, NONE)
    assert caught.value.code == "unknown-target"


@pytest.mark.parametrize(
    "name",
    [
        "torch.nn.Sequential",
        "torch.nn.DataParallel",
        "torch.nn.functional.relu",
        "torch.nn.Conv9d",
        "os.PathLike",
    ],
)
def test_a_class_off_the_list_is_refused(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        class_named(name, NONE)
    assert caught.value.code == "unknown-class"


def test_methods_and_attributes_do_no_harm() -> None:
    harmful = {
        "apply_", "map_", "map2_", "numpy", "backward", "register_hook", "share_memory_", "storage", "untyped_storage",
        "set_", "data", "data_ptr", "resize_", "requires_grad_", "as_strided", "tolist", "grad_fn",
    }  # fmt: skip
    assert not harmful & (METHODS | ATTRIBUTES)
    assert not [name for name in METHODS | ATTRIBUTES if name.startswith("_")]


def test_trust_opens_exactly_the_names_in_it() -> None:
    assert function_named("subprocess.run", frozenset({"subprocess.run"})) is subprocess.run
    assert name_of_function(subprocess.run, frozenset({"subprocess.run"})) == "subprocess.run"
    with pytest.raises(SpecError):
        function_named("subprocess.call", frozenset({"subprocess.run"}))


@pytest.mark.parametrize("name", ["nowhere.f", "subprocess.nothing", "plain", "..x"])
def test_a_trusted_name_that_cannot_be_imported_says_so(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        class_named(name, frozenset({name}))
    assert caught.value.code == "untrusted"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "1a",
        "class",
        "__x",
        "self",
        "torch",
        "slice",
        "ﬁ",
        "x;y",
        "x\n",
        "a.b",
        "x" * 300,
        "getattr",
    ],
)
def test_identifiers_that_could_change_generated_source_are_refused(name: str) -> None:
    assert not is_identifier(name)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "a..b",
        "a.forward",
        "_modules.a",
        "graph",
        "training",
        "a.__class__",
        'a"b',
        "a\\",
        "a.if",
        "a b",
        "é",
    ],
)
def test_paths_that_hide_or_break_something_are_refused(path: str) -> None:
    assert not is_attribute_path(path)


@pytest.mark.parametrize("path", ["features.0.1", "block1-0.f", "_tensor_constant0", "bn", "torch"])
def test_paths_of_real_models_are_accepted(path: str) -> None:
    assert is_attribute_path(path)
