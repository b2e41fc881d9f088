"""References to models in recipes: factories without trust, options that reach beyond numbers, models beyond memory."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fxgrow.cli.main import app
from fxgrow.cli.resolve import resolve
from fxgrow.cli.trust import trust_modules
from fxgrow.errors import FxgrowError, ModelError
from tests.attacks.attacking import CANARY, within_a_second

NOTHING = trust_modules(())
HOSTILE = "from os import system\nfrom pathlib import Path\n\nPath('canary').touch()\n"
RECIPE = "schema_version: 1\nmodel: {}\nbudget: {{neurons: 1}}\n"

FACTORIES = (
    "os:system?command=touch%20canary",
    "python:os:system?command=touch%20canary",
    "subprocess:getoutput?cmd=touch%20canary",
    "builtins:exec",
    "hostile:net",
    "fxgrow.cells.evaluation:evaluation_network",
    "fxgrow.cli.main:app",
    "torch.hub:load?repo_or_dir=a/b&model=c",
    "torch:load?f=hostile.pt",
    "importlib:import_module?name=hostile",
)
UNREADABLE = (
    "PYTHON:hostile:net",
    "python:hostile:net:net",
    "python:.hostile:net",
    "hostile.:net",
    "hostile:net.__call__",
    "hostile:",
    "python::system",
    "\uff4fs:system",
    "hostile;rm:net",
    "//server/share",
    "directory://server/share",
    "directory:\\\\server\\share",
    "x" * 300,
    "torchvision:resnet18?" + "a" * 5000,
    "torchvision:resnet18?" + "a=1&" * 500 + "a=1",
    "torchvision:resnet18?width=1e9",
    "torchvision:resnet18?width=" + "9" * 400,
    "torchvision:resnet18?input=3x100000x100000",
    "torchvision:resnet18?input=16384x16384x16384",
    "torchvision:resnet18?input=" + "3x4000x4000," * 99 + "1",
)
OPTIONS = (
    "torchvision:resnet18?weights=DEFAULT",
    "torchvision:resnet18?weights=true",
    "torchvision:resnet18?progress=true",
    "torchvision:resnet18?norm_layer=os.system",
    "torchvision:resnet18?block=os.system",
    "torchvision:fcn_resnet50?weights_backbone=DEFAULT",
    "torchvision:resnet18?num_classes=1000000000000",
    "torchvision:resnet18?num_classes=-1",
    "torchvision:resnet18?num_classes=true",
    "torchvision:resnet18?num_classes=1e3",
    "torchvision:resnet18?num_classes=nan",
    "torchvision:resnet18?num_classes=" + "9" * 4000,
    "torchvision:resnet18?num_classes=" + "1," * 100 + "1",
    "torchvision:vit_b_32?num_layers=100000000",
    "torchvision:vit_b_32?image_size=100000000",
    "fxgrow.cells.evaluation:named_network?genotype=DARTS_V2&layers=100000000",
    "fxgrow.cells.evaluation:named_network?genotype=DARTS_V2&channels=100000000",
    "fxgrow.cells.evaluation:named_network?genotype=DARTS_V2&choose=os.system",
    "fxgrow.cells.evaluation:named_network?genotype=1",
    "fxgrow.cells.evaluation:named_network",
    # refused before the packages are looked for
    "timm:resnet18?pretrained=true",
    "timm:resnet18?pretrained_cfg=hf-hub:a/b",
    "timm:resnet18?pretrained_cfg_overlay=a",
    "timm:resnet18?checkpoint_path=hostile.pt",
    "timm:resnet18?cache_dir=canary",
    "timm:resnet18?scriptable=true",
    "timm:resnet18?norm_layer=batchnorm2d",
    "timm:resnet18?features_only=true",
    "timm:vit_tiny_patch16_224?global_pool=__import__",
    "timm:vit_tiny_patch16_224?depth=100000000",
    "hf:bert?name_or_path=hostile",
    "hf:bert?_name_or_path=hostile",
    "hf:bert?pretrained_model_name_or_path=hostile",
    "hf:bert?trust_remote_code=true",
    "hf:bert?auto_map=a",
    "hf:bert?architectures=a",
    "hf:bert?attn_implementation=kernels-community/attention",
    "hf:bert?torchscript=true",
    "hf:detr?backbone=a/b&use_pretrained_backbone=true",
    "hf:detr?use_pretrained_backbone=true",
    "hf:bert?hidden_act=os.system",
    "hf:bert?num_hidden_layers=100000000",
)
# Of names that only an installed package knows.
NAMES = (
    ("torchvision:__class__", "torchvision"),
    ("torchvision:models.resnet18", "torchvision"),
    ("torchvision:get_model", "torchvision"),
    ("timm:hf-hub:a/b", "timm"),
    ("timm:hf_hub:a/b", "timm"),
    ("timm:local-dir:.", "timm"),
    ("timm:resnet18.a1_in1k", "timm"),
    ("hf:AutoModel", "transformers"),
    ("hf:AutoModelForCausalLM", "transformers"),
    ("hf:PreTrainedModel", "transformers"),
    ("hf:TextGenerationPipeline", "transformers"),
    ("hf:./hostile", "transformers"),
)


@pytest.fixture(autouse=True)
def _hostile_files() -> None:
    """What a stranger's directory could hold beside a recipe."""
    Path("hostile.py").write_text(HOSTILE)
    Path("hostile.pt").write_bytes(b"\x80\x04cposix\nsystem\n(S'touch canary'\ntR.")


def assert_refused(reference: str, code: str) -> FxgrowError:
    """It raises an error of this code in one line, within a second of processor time, and runs nothing."""
    with within_a_second(), pytest.raises(FxgrowError) as caught:
        resolve(reference, trust=NOTHING)
    assert caught.value.code == code, caught.value
    assert len(str(caught.value)) < 1500
    assert "\n" not in str(caught.value)
    assert not CANARY.exists()
    assert "hostile" not in sys.modules
    return caught.value


@pytest.mark.parametrize("reference", FACTORIES)
def test_a_factory_is_not_imported(reference: str) -> None:
    error = assert_refused(reference, "untrusted-factory")
    module = reference.removeprefix("python:").partition(":")[0]
    assert f"say --trust {module}" in str(error)


@pytest.mark.parametrize("reference", UNREADABLE, ids=lambda reference: reference[:40])
def test_it_is_no_reference(reference: str) -> None:
    assert_refused(reference, "bad-reference")


@pytest.mark.parametrize("reference", OPTIONS, ids=lambda reference: reference[:60])
def test_options_beyond_the_table(reference: str) -> None:
    if reference.startswith("torchvision"):
        pytest.importorskip("torchvision.models")
    assert_refused(reference, "model-options")


@pytest.mark.parametrize(("reference", "package"), NAMES)
def test_names_beyond_the_packages_own_models(reference: str, package: str) -> None:
    pytest.importorskip(package)
    with pytest.raises(ModelError):
        resolve(
            f"{reference.partition(':')[0]}:imports-first"
        )  # slow, and no part of what is measured
    assert_refused(reference, "unknown-model")


def test_a_model_that_no_memory_holds_is_not_built() -> None:
    assert_refused(
        "fxgrow.cells.evaluation:named_network?genotype=DARTS_V2&channels=16384", "too-large"
    )


@pytest.mark.parametrize("link", [False, True])
def test_a_directory_named_like_a_factory_is_data(link: bool) -> None:
    """It holds what transformers would run with remote code."""
    made = Path("real" if link else "os:system")
    made.mkdir()
    (made / "config.json").write_text(
        '{"model_type": "x", "auto_map": {"AutoModel": "hostile.Net"}}'
    )
    if link:
        Path("hostile:net").symlink_to(made)
        assert_refused("hostile:net", "symlink")
    else:
        assert_refused(made.name, "missing-key")


def run(*words: str) -> Result:
    return CliRunner().invoke(
        app, ["run", "recipe.yaml", "--out", "out", *words], prog_name="fxgrow"
    )


@pytest.mark.parametrize(
    "words", [(), ("--trust", "hostile.inner"), ("--trust", "host"), ("--trust", "os")]
)
def test_a_recipe_runs_no_code_without_trust(words: tuple[str, ...]) -> None:
    Path("recipe.yaml").write_text(RECIPE.format("hostile:net"))
    done = run(*words)
    assert (done.exit_code, done.stderr[-20:]) == (2, "[untrusted-factory]\n")
    assert not CANARY.exists()
    assert not Path("out").exists()


def test_the_data_is_not_loaded_first() -> None:
    Path("recipe.yaml").write_text(RECIPE.format("hostile:net") + "data: {name: cifar10}\n")
    assert run().stderr.endswith("[untrusted-factory]\n")


@pytest.mark.parametrize(
    "name", ["", "os:system", "a b", "../hostile", "hostile.py;", ".hostile", "*"]
)
def test_trust_in_what_is_no_module(name: str) -> None:
    Path("recipe.yaml").write_text(RECIPE.format("hostile:net"))
    assert run("--trust", name).stderr.endswith("[bad-trust]\n")


def test_trust_does_not_cover_what_a_module_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("friendly.py").write_text("from os import system\n")
    with pytest.raises(
        ModelError, match=r"comes from posix, which --trust friendly does not cover"
    ) as caught:
        resolve("friendly:system?command=touch%20canary", trust=trust_modules(["friendly"]))
    assert caught.value.code == "untrusted-factory"
    assert not CANARY.exists()
    monkeypatch.delitem(sys.modules, "friendly")


def test_trust_and_typing_run_a_factory(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("wanted.py").write_text("from torch import nn\n\ndef net():\n    return nn.Identity()\n")
    assert resolve("wanted:net", trust=trust_modules(["wanted"])).label == "python:wanted:net"
    assert resolve("wanted:net").label == "python:wanted:net"
    monkeypatch.delitem(sys.modules, "wanted")
