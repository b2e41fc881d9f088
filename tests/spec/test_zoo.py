"""Real architectures, small: save, load, same bits, same bytes. One of them in a fresh process."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import fx, nn
from torchvision import models

from fxgrow.spec import describe, load, save

SWIN = {
    "patch_size": [4, 4],
    "embed_dim": 8,
    "depths": [2, 1],
    "num_heads": [1, 2],
    "window_size": [4, 4],
}
REGNET = models.regnet.BlockParams.from_init_params(4, 8, 4.0, 2.0, 8, se_ratio=0.25)
CONVNEXT = [models.convnext.CNBlockConfig(8, 16, 1), models.convnext.CNBlockConfig(16, None, 1)]
ZOO: dict[str, Callable[[], nn.Module]] = {
    "resnet18": models.resnet18,
    "densenet": lambda: models.DenseNet(4, (2, 2), 8, num_classes=5),
    "mobilenet": lambda: models.mobilenet_v2(width_mult=0.25, num_classes=5),
    "shufflenet": lambda: models.ShuffleNetV2(
        [1, 1, 1], [8, 16, 32, 64, 64]
    ),  # chunk, sizes read from the tensor
    "regnet": lambda: models.RegNet(REGNET, num_classes=5),  # names like block1-0
    "swin": lambda: models.SwinTransformer(
        **SWIN, num_classes=5
    ),  # wrapped functions, got parameters
    "convnext": lambda: models.ConvNeXt(CONVNEXT, num_classes=5),
    "vit": lambda: models.VisionTransformer(
        32, 8, 2, 2, 16, 32, num_classes=5
    ),  # fused attention, asserts
}


def torchvision_calls(net: fx.GraphModule) -> list[str]:
    targets = (node.target for node in net.graph.nodes if node.op == "call_function")
    return [target.__name__ for target in targets if target.__module__.startswith("torchvision.")]


@pytest.mark.parametrize("name", ZOO)
def test_saved_and_loaded_bit_for_bit(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = fx.symbolic_trace(ZOO[name]().eval())
    example = (torch.randn(1, 3, 32, 32),)
    spec = save(net, tmp_path / "run", describe(net, example))
    again = load(tmp_path / "run")
    with torch.no_grad():
        assert torch.equal(again(*example), net(*example))
    save(again, tmp_path / "again")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "run" / file).read_bytes()
    assert torchvision_calls(fx.symbolic_trace(again)) == torchvision_calls(
        net
    )  # tracing again does not enter them
    assert spec.parameters == describe(again, example).parameters


PROGRAM = """
import sys, torch
from pathlib import Path
from safetensors.torch import save_file
from fxgrow.spec import load
from fxgrow.documents.tensor_files import read_tensors
torch.set_num_threads(1)
run = Path(sys.argv[1])
save_file({"y": load(run / "run")(read_tensors(run / "x")["x"]).detach()}, run / "y")
"""


def test_a_fresh_process_computes_the_same_bits(
    tmp_path: Path, net: fx.GraphModule, inputs: tuple[torch.Tensor]
) -> None:
    save(net, tmp_path / "run", describe(net, inputs))
    save_file({"x": inputs[0]}, tmp_path / "x")
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], check=True, cwd=root, timeout=60)
    assert torch.equal(load_file(tmp_path / "y")["y"], net(*inputs))
