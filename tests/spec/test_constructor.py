"""Every describable torch.nn module comes back from its record; a module its constructor cannot make is refused."""

import pytest
import torch
from torch import nn

from fxgrow.errors import SpecError
from fxgrow.spec.arguments import argument_text
from fxgrow.spec.constructor import build_module, describe_module, tensors_of
from fxgrow.spec.models import ModuleSpec

NONE: frozenset[str] = frozenset()
MODULES = [
    nn.Conv2d(4, 6, (3, 5), stride=2, padding="valid", groups=2, bias=False, padding_mode="reflect"),
    nn.ConvTranspose1d(2, 4, 3, output_padding=1, stride=2),
    nn.Linear(3, 4, bias=False),
    nn.Bilinear(2, 3, 4),
    nn.BatchNorm2d(5, eps=1e-3, momentum=None, affine=False),
    nn.BatchNorm1d(5, track_running_stats=False),
    nn.LayerNorm((2, 3), bias=False),
    nn.LayerNorm(3, elementwise_affine=False),
    nn.RMSNorm(4, eps=None),
    nn.GroupNorm(2, 4),
    nn.InstanceNorm2d(3, affine=True),
    nn.MultiheadAttention(4, 2, dropout=0.1, bias=False, add_bias_kv=True, kdim=3, vdim=5, batch_first=True),
    nn.TransformerEncoderLayer(4, 2, 8, dropout=0.2, activation="gelu", batch_first=True, norm_first=True, bias=False),
    nn.LSTM(3, 4, num_layers=2, bias=False, bidirectional=True, proj_size=2),
    nn.RNN(3, 4, nonlinearity="relu", batch_first=True),
    nn.GRUCell(3, 4, bias=False),
    nn.Embedding(5, 3, padding_idx=1, max_norm=float("inf")),
    nn.PReLU(3, init=0.1),
    nn.AdaptiveAvgPool2d((None, 7)),
    nn.MaxPool2d(3, ceil_mode=True),
    nn.Upsample(scale_factor=(2.0, 3.0), mode="bilinear", align_corners=True),
    nn.Unflatten(1, (2, 3)),
    nn.Softmax(dim=1),
    nn.GELU(approximate="tanh"),
    nn.Hardtanh(-2.0, 2.0, inplace=True),
    nn.ReLU6(),
    nn.Identity(),
    nn.ZeroPad2d(1),
]  # fmt: skip


@pytest.mark.parametrize("module", MODULES, ids=lambda module: type(module).__name__)
def test_a_module_comes_back_from_its_record(module: nn.Module) -> None:
    again = build_module(describe_module("m", module, NONE), NONE)
    assert type(again) is type(module)
    assert tensors_of(again) == tensors_of(module)
    assert again.extra_repr() == module.extra_repr()
    assert all(tensor.is_meta for tensor in again.state_dict().values())


def test_config_reads_as_one_would_write_it() -> None:
    config = describe_module("m", nn.Conv2d(3, 8, 3, bias=False), NONE).config
    assert {key: argument_text(value) for key, value in config.items()} == {
        "in_channels": "3", "out_channels": "8", "kernel_size": "(3, 3)", "stride": "(1, 1)", "padding": "(0, 0)",
        "dilation": "(1, 1)", "groups": "1", "bias": "False", "padding_mode": "'zeros'",
    }  # fmt: skip


def stale_shape() -> nn.Module:
    layer = nn.Linear(3, 4)
    layer.weight = nn.Parameter(torch.zeros(5, 3))
    return layer


def stale_attribute() -> nn.Module:
    layer = nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular")
    layer.padding = (2, 2)  # the derived _reversed_padding_repeated_twice still says 1
    return layer


def hooked() -> nn.Module:
    layer = nn.Linear(3, 4)
    layer.register_forward_hook(lambda module, args, output: output * 2)
    return layer


def patched() -> nn.Module:
    layer = nn.Linear(3, 4)
    layer.forward = torch.sin  # type: ignore[method-assign]
    return layer


class Mine(nn.Linear):
    """A class outside the allow-list."""


@pytest.mark.parametrize(
    ("module", "code"),
    [
        (stale_shape(), "bad-config"),
        (stale_attribute(), "bad-config"),
        (nn.AdaptiveLogSoftmaxWithLoss(4, 5, [2]), "unknown-class"),
        (Mine(3, 4), "unknown-class"),
        (nn.LazyLinear(3), "unknown-class"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), "unknown-class"),
        (hooked(), "patched-module"),
        (patched(), "patched-module"),
    ],
)
def test_a_module_that_its_constructor_does_not_make_is_refused(
    module: nn.Module, code: str
) -> None:
    with pytest.raises(SpecError) as caught:
        describe_module("layer1.0", module, NONE)
    assert (caught.value.code, caught.value.path) == (code, "modules[layer1.0]")


def test_a_huge_recurrent_module_is_refused_before_it_is_built() -> None:
    spec = ModuleSpec(
        name="m",
        type="torch.nn.LSTM",
        config={"input_size": 1, "hidden_size": 1, "num_layers": 2**40},
    )
    with pytest.raises(SpecError, match="num_layers") as caught:
        build_module(spec, NONE, max_tensors=100)
    assert caught.value.code == "bad-config"
