"""The convolutions that are not safe on AVX2 are known, and refused before a gradient is taken; on any machine."""

import platform
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

import fxgrow
from fxgrow.cells.evaluation import evaluation_network
from fxgrow.cells.genotypes.lookup import find_genotype
from fxgrow.errors import ModelError
from fxgrow.growth import Objective
from fxgrow.kernel_guard import (
    guard_unsafe_kernel,
    has_unsafe_kernel,
    is_channels_last,
    is_unwritten_in_bfloat16,
    require_bfloat16_gradients,
)
from fxgrow.training import train_epoch

LAST = torch.channels_last


@pytest.fixture
def avx2(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if oneDNN were kept to AVX2; it has read the variable long ago, fxgrow reads it every time."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")


class Functional(nn.Module):
    """A convolution without a layer."""

    def __init__(self, call: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape))
        self.call = call

    def forward(self, images: Tensor) -> Tensor:
        return self.call(images, self.weight)


def images(channels: int, *size: int) -> Tensor:
    return torch.randn(2, channels, *(size or (8, 8))).to(memory_format=LAST)


@pytest.mark.usefixtures("avx2")
def test_a_branch_in_the_graph_is_let_through() -> None:
    branches = (lambda h: h + 1, lambda h: h - 1)
    x = torch.ones(2)
    with guard_unsafe_kernel(nn.Identity()):
        found = torch.ops.higher_order.cond(x.sum() > 0, *branches, (x,))
    assert found.tolist() == [2.0, 2.0]


UNSAFE = {
    "one channel": (nn.Conv2d(1, 8, 1, 2), images(1)),
    "two channels": (nn.Conv2d(2, 9, 1, 2), images(2)),
    "seven channels": (nn.Conv2d(7, 1, 1, 2, bias=False), images(7)),
    "one axis": (nn.Conv2d(4, 8, 1, (1, 2)), images(4, 7, 8)),
    "stride 3": (nn.Conv2d(4, 8, 1, 3), images(4, 9, 12)),
    "dilation": (nn.Conv2d(4, 8, 1, 2, dilation=2), images(4)),
    "not dense": (nn.Conv2d(5, 8, 1, 2), images(9)[:, :5]),
    "weight norm": (nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 8, 1, 2)), images(4)),
    "transposed": (nn.ConvTranspose2d(16, 5, 1, 2, output_padding=1), images(16)),
}
SAFE = {
    "contiguous": (nn.Conv2d(4, 8, 1, 2), images(4).contiguous()),
    "one channel, in rows": (nn.Conv2d(1, 8, 1, 2), torch.randn(2, 1, 8, 8)),
    "eight channels": (nn.Conv2d(8, 8, 1, 2), images(8)),
    "stride 1": (nn.Conv2d(4, 8, 1), images(4)),
    "kernel 2": (nn.Conv2d(4, 8, 2, 2), images(4)),
    "padding": (nn.Conv2d(4, 8, 1, 2, padding=1), images(4)),
    "groups": (nn.Conv2d(4, 8, 1, 2, groups=2), images(4)),
    "odd size": (nn.Conv2d(4, 8, 1, 2), images(4, 9, 9)),
    "one axis odd": (nn.Conv2d(4, 8, 1, 2), images(4, 9, 8)),
    "float64": (nn.Conv2d(4, 8, 1, 2).double(), images(4).double()),
    "frozen": (nn.Conv2d(4, 8, 1, 2).requires_grad_(requires_grad=False), images(4)),
    "one dimension": (nn.Conv1d(4, 8, 1, 2), torch.randn(2, 8, 4).transpose(1, 2)),
    "transposed to fewer pixels": (nn.ConvTranspose2d(16, 5, 1, 2), images(16)),
    "transposed from few": (nn.ConvTranspose2d(5, 16, 1, 2, output_padding=1), images(5)),
}


@pytest.mark.usefixtures("avx2")
@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_convolutions_are_refused(name: str) -> None:
    model, given = UNSAFE[name]
    with pytest.raises(ModelError) as caught, guard_unsafe_kernel(nn.Sequential(model)):
        model(given)
    assert caught.value.code == "unsafe-convolution"


@pytest.mark.usefixtures("avx2")
@pytest.mark.parametrize("name", SAFE)
def test_safe_convolutions_run(name: str) -> None:
    model, given = SAFE[name]
    with guard_unsafe_kernel(model):
        model(given)


@pytest.mark.usefixtures("avx2")
def test_a_weight_that_lies_channels_last_is_enough() -> None:
    call = Functional(lambda x, w: F.conv2d(x, w.permute(0, 3, 1, 2), stride=2), (8, 1, 1, 5))
    with pytest.raises(ModelError, match="a function of the model"), guard_unsafe_kernel(call):
        call(images(5).contiguous())


@pytest.mark.parametrize(
    ("limit", "enabled", "expected"),
    [
        ("avx2", True, True),
        ("AVX2_VNNI", True, True),
        ("AVX", True, False),
        ("SSE41", True, False),
        ("AVX2", False, False),
    ],
)
def test_whether_the_kernel_may_run(
    monkeypatch: pytest.MonkeyPatch, limit: str, enabled: bool, expected: bool
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", enabled)
    assert has_unsafe_kernel() is expected


def test_without_a_limit_the_processor_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    for capability, expected in (("AVX2", True), ("DEFAULT", True), ("AVX512", False)):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", partial(str, capability))
        monkeypatch.setattr(platform, "machine", partial(str, "x86_64"))
        assert has_unsafe_kernel() is expected


def test_layouts_are_told_as_torch_tells_them() -> None:
    plain = torch.empty(2, 3, 4, 5)
    known = [
        (plain, False),
        (plain.to(memory_format=LAST), True),
        (images(9)[:, :5], True),
        (images(1), True),
        (plain[:, :1].contiguous(), False),
    ]
    known += [
        (torch.empty(2, 3, 1, 1), False),
        (torch.empty(2, 1, 1, 3).permute(0, 3, 1, 2), True),
        (plain[:0], False),
    ]
    for tensor, expected in known:
        assert is_channels_last(tensor) is expected, tensor.stride()


class Small(nn.Module):
    """A user's network, channels last from its first convolution on."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.shrink = nn.Conv2d(6, 8, 1, 2)
        self.head = nn.Linear(8, 2)

    def forward(self, given: Tensor) -> Tensor:
        found: Tensor = self.head(self.shrink(self.stem(given).relu()).relu().mean((2, 3)))
        return found


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 0, 1])


@pytest.mark.usefixtures("avx2")
def test_growth_and_training_name_the_layer_and_leave_the_model_alone() -> None:
    model = Small().to(memory_format=LAST)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    inputs, target = batch()
    with pytest.raises(
        ModelError, match=r"^shrink, a 1 x 1 convolution of 6 channels at stride \(2, 2\)"
    ):
        fxgrow.grow(model, [(inputs, target)], F.cross_entropy, example_inputs=inputs)
    with pytest.raises(ModelError, match="contiguous_format"):
        train_epoch(
            model, [(inputs, target)], F.cross_entropy, torch.optim.SGD(model.parameters(), 0.1)
        )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.usefixtures("avx2")
@pytest.mark.parametrize(("layout", "enabled"), [(torch.contiguous_format, True), (LAST, False)])
def test_the_remedies_that_the_message_names_help(
    monkeypatch: pytest.MonkeyPatch, layout: torch.memory_format, enabled: bool
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", enabled)
    inputs, target = batch()
    model = Small().to(memory_format=LAST).to(memory_format=layout)
    grown = fxgrow.grow(model, [(inputs, target)], F.cross_entropy, example_inputs=inputs).module
    train_epoch(
        grown, [(inputs, target)], F.cross_entropy, torch.optim.SGD(grown.parameters(), 0.1)
    )


@pytest.mark.usefixtures("avx2")
def test_without_gradients_nothing_is_refused() -> None:
    model, given = Small().to(memory_format=LAST), batch()
    fxgrow.capture(model, given[0])
    fxgrow.widen(model, {"shrink": 2}, given[0])
    Objective([given], F.cross_entropy).mean(model)


@pytest.mark.usefixtures("avx2")
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_our_own_networks_are_safe_at_any_width(channels: int) -> None:
    network = evaluation_network(find_genotype("DARTS_V2"), channels, 3)
    with guard_unsafe_kernel(network):
        network(torch.randn(2, 3, 16, 16))


@pytest.mark.usefixtures("avx2")
def test_nothing_is_watched_where_no_such_kernel_runs() -> None:
    """A watcher would keep a model that is compiled on a GPU from running compiled."""
    elsewhere = Small().to("meta")
    with guard_unsafe_kernel(elsewhere):
        assert not _get_current_dispatch_mode_stack()
    with guard_unsafe_kernel(Small()):
        assert _get_current_dispatch_mode_stack()


@pytest.mark.parametrize(
    ("images", "kernel", "stride", "unwritten"),
    [
        ((1, 1), (3, 3), (2, 2), True),
        ((1, 1), (1, 1), (2, 2), True),
        ((4, 2), (3, 3), (1, 3), True),
        ((2, 2), (3, 3), (2, 2), False),
        ((1, 1), (3, 3), (1, 1), False),
        ((4,), (3,), (5,), True),
        ((4, 4, 4), (3, 3, 3), (1, 1, 1), True),
    ],
)
def test_gradients_that_are_not_written_in_bfloat16(
    images: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...], unwritten: bool
) -> None:
    rest = (None, stride, [1] * len(stride), [1] * len(stride))
    found = is_unwritten_in_bfloat16(
        torch.empty(2, 16, *images), torch.empty(8, 16, *kernel), *rest, False, [0], 1
    )
    assert found == unwritten
    assert not is_unwritten_in_bfloat16(
        torch.empty(2, 16, *images), torch.empty(16, 8, *kernel), *rest, True, [0], 1
    )


@pytest.mark.parametrize(("side", "stride"), [(2, 2), (3, 2), (3, 3), (8, 2), (1, 1)])
def test_gradients_that_are_let_through_are_right(side: int, stride: int) -> None:
    """Even where an entry of the kernel meets nothing but padding: its gradient is 0."""
    torch.manual_seed(0)
    layer, images = nn.Conv2d(16, 32, 3, stride, 1, bias=False), torch.randn(4, 16, side, side)
    layer(images).square().sum().backward()
    right = layer.weight.grad.clone()
    layer.zero_grad()
    # What is freed here is what the gradient would show where it is not written.
    freed = [torch.full_like(layer.weight, torch.nan, dtype=torch.bfloat16) for _ in range(4)]
    del freed
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = layer(images)
    outputs.float().square().sum().backward()
    assert (layer.weight.grad - right).abs().max() < 0.05 * right.abs().max()


def test_a_branch_for_training_is_looked_at_in_bfloat16() -> None:
    class Early(nn.Module):
        """Classifies early as well, in training only, as GoogLeNet does."""

        def __init__(self) -> None:
            super().__init__()
            self.early = nn.Conv2d(3, 3, 3, stride=2, padding=1)

        def forward(self, images: Tensor) -> Tensor:
            return self.early(images) if self.training else images

    model = Early().eval()
    with pytest.raises(ModelError, match="early, a convolution at stride"):
        require_bfloat16_gradients(model, torch.zeros(2, 3, 1, 1))
    assert not model.training
