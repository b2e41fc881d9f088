import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from fxgrow.cli.resolve import SCHEMES, resolve, split_reference
from fxgrow.errors import ModelError

FACTORIES = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=2, hidden=3):
        super().__init__()
        self.hidden = hidden
        self.head = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.head(x)

def with_inputs(size):
    return nn.Linear(size, 1), (torch.zeros(5, size),)

def with_one_input():
    return nn.Identity(), torch.zeros(2)

def no_model():
    return 3

def broken():
    raise TypeError("inside")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the current directory, one that no other test has imported."""
    name = f"factories_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    return name


def test_a_factory_in_the_current_directory(module: str) -> None:
    path = list(sys.path)
    resolved = resolve(f"{module}:Net?hidden=7&width=0.5&input=4", classes=6)
    assert resolved.model.hidden == 7
    assert resolved.width == 0.5
    assert resolved.model(*resolved.example_inputs).shape == (1, 6)
    assert resolved.label == f"python:{module}:Net?hidden=7&num_classes=6"
    again = resolve(resolved.label)
    assert again.model(torch.zeros(1, 4)).shape == (1, 6)
    assert sys.path == path


def test_a_factory_may_bring_its_example_inputs(module: str) -> None:
    assert resolve(f"{module}:with_inputs?size=3", classes=9).example_inputs[0].shape == (5, 3)
    assert resolve(f"{module}:with_inputs?size=3&input=8").example_inputs[0].shape == (1, 8)
    assert resolve(f"{module}:with_one_input").example_inputs[0].shape == (2,)


@pytest.mark.parametrize(
    ("rest", "code", "sentence"),
    [
        ("Nte", "unknown-model", "has no model 'Nte'; the closest names are Net"),
        (
            "Net?depth=3",
            "model-options",
            "unexpected keyword argument 'depth'; it takes hidden, num_classes",
        ),
        ("with_inputs", "model-options", "missing a required argument: 'size'"),
        ("no_model", "not-a-model", "returned a int"),
        ("", "bad-reference", "names no factory"),
    ],
)
def test_factories_that_cannot_be_used(module: str, rest: str, code: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence) as caught:
        resolve(f"{module}:{rest}")
    assert caught.value.code == code


def test_a_bug_inside_a_factory_is_shown_as_it_is(module: str) -> None:
    with pytest.raises(TypeError, match="inside"):
        resolve(f"{module}:broken")


def test_a_module_that_is_not_there_or_misses_another(module: str) -> None:
    with pytest.raises(ModelError, match="no module 'no_such_package' to import 'net' from"):
        resolve("no_such_package.inner:net")
    Path(f"{module}_importer.py").write_text("import no_such_package\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        resolve(f"{module}_importer:net")


@pytest.mark.parametrize(
    ("reference", "shape", "classes"),
    [
        ("torchvision:squeezenet1_1", (1, 3, 224, 224), 10),
        ("torchvision:squeezenet1_1?num_classes=7", (1, 3, 224, 224), 7),
        ("torchvision:squeezenet1_1?input=3x64x64", (1, 3, 64, 64), 10),
        ("torchvision:mobilenet_v3_small?width_mult=0.25&input=3x32x32", (1, 3, 32, 32), 10),
    ],
)
def test_torchvision(reference: str, shape: tuple[int, ...], classes: int) -> None:
    pytest.importorskip("torchvision")
    resolved = resolve(reference, classes=10)
    assert [tuple(each.shape) for each in resolved.example_inputs] == [shape]
    assert resolved.model.eval()(*resolved.example_inputs).shape == (1, classes)
    assert resolve(resolved.label).label == resolved.label


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("inception_v3", [(1, 3, 299, 299)]),
        ("r3d_18", [(1, 3, 16, 224, 224)]),
        ("raft_small", [(1, 3, 128, 128)] * 2),
        ("vit_b_32?image_size=64", [(1, 3, 64, 64)]),
        (
            "lraspp_mobilenet_v3_large",
            [(1, 3, 224, 224)],
        ),  # would download its backbone if nothing were said
    ],
)
def test_torchvision_inputs(name: str, shapes: list[tuple[int, ...]]) -> None:
    pytest.importorskip("torchvision")
    with torch.device("meta"):
        resolved = resolve(f"torchvision:{name}")
    assert [tuple(each.shape) for each in resolved.example_inputs] == shapes


def test_the_datas_shape_counts_unless_the_reference_says_its_own() -> None:
    pytest.importorskip("torchvision")
    shape = (3, 32, 32)
    assert resolve("torchvision:squeezenet1_1", input_shape=shape).example_inputs[0].shape == (
        1,
        *shape,
    )
    own = resolve("torchvision:squeezenet1_1?input=3x40x40", input_shape=shape)
    assert own.example_inputs[0].shape == (1, 3, 40, 40)


def test_initial_weights_follow_torch_manual_seed_and_example_inputs_do_not() -> None:
    pytest.importorskip("torchvision")
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        models.append(resolve("torchvision:squeezenet1_1?num_classes=2"))
    first, again, other = (next(each.model.parameters()) for each in models)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(models[0].example_inputs[0], models[2].example_inputs[0])


@pytest.mark.parametrize(
    ("rest", "code", "sentence"),
    [
        ("resnt18", "unknown-model", "no model 'resnt18'; the closest names are resnet18, resnet1"),
        ("resnet18?depth=3", "model-options", "no option 'depth'; it takes groups, .*num_classes"),
        ("resnet18?weights=DEFAULT", "model-options", "no option 'weights'"),
        ("squeezenet1_1?num_classes=ten", "model-options", "num_classes=ten cannot be built"),
        (
            "mobilenet_v3_small?widthmult=1",
            "model-options",
            "no option 'widthmult'; it takes .*width_mult",
        ),
    ],
)
def test_torchvision_models_that_cannot_be_built(rest: str, code: str, sentence: str) -> None:
    pytest.importorskip("torchvision")
    with pytest.raises(ModelError, match=sentence) as caught:
        resolve(f"torchvision:{rest}")
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("scheme", "package"), [("timm", "timm"), ("hf", "transformers")])
def test_a_zoo_that_is_not_installed(scheme: str, package: str) -> None:
    if find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(ModelError, match=rf"'{package}' is not installed; .*fxgrow\[zoo\]"):
        resolve(f"{scheme}:resnet18")


def test_timm() -> None:
    pytest.importorskip("timm")
    resolved = resolve("timm:mobilenetv3_small_050?input=3x32x32", classes=10)
    assert resolved.model.eval()(*resolved.example_inputs).shape == (1, 10)
    with pytest.raises(
        ModelError, match=r"no option 'depht' that a reference may set; it takes .*depth"
    ):
        resolve("timm:mobilenetv3_small_050?depht=3")


def test_hugging_face() -> None:
    pytest.importorskip("transformers")
    small = "hidden_size=32&num_attention_heads=2&num_hidden_layers=1&intermediate_size=8"
    words = resolve(f"hf:BertForSequenceClassification?{small}&input=12", classes=10)
    assert words.model.eval()(*words.example_inputs).logits.shape == (1, 10)
    images = resolve(f"hf:vit?{small}&image_size=32")
    assert images.example_inputs[0].shape == (1, 3, 32, 32)
    with pytest.raises(ModelError, match=r"no option 'hiden_size' .*; it takes .*hidden_size"):
        resolve("hf:bert?hiden_size=3")


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("torchvision:resnet18?a=1", ("torchvision", "resnet18?a=1")),
        ("python:package.module:net", ("python", "package.module:net")),
        ("package.module:net", ("python", "package.module:net")),
        ("directory:runs/demo", ("directory", "runs/demo")),
    ],
)
def test_split(reference: str, expected: tuple[str, str]) -> None:
    assert split_reference(reference) == expected


def test_a_directory_with_a_config_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert split_reference(str(tmp_path)) == ("directory", str(tmp_path))


def test_words_that_are_no_reference() -> None:
    with pytest.raises(ModelError, match=r"'resnet18' is neither .*torchvision:NAME"):
        resolve("resnet18")
    if "directory" not in SCHEMES:
        with pytest.raises(ModelError, match="directory references such as"):
            resolve("directory:runs")
