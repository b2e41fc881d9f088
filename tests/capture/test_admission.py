"""Models that are no plain modules: they work, or one sentence says what to grow instead."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import HashStore
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

import fxgrow
from fxgrow import Firefly, ModelError

INPUTS = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
QUICK = Firefly(new=2, steps=1, refine_steps=1)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))


def quantized() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(network(), {nn.Linear})


def scripted(module: nn.Module) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(module)


def compiled(module: nn.Module) -> Any:
    return torch.compile(module, backend="eager")


class Replicating(nn.DataParallel[nn.Module]):
    """What DataParallel is on a machine with GPUs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.device_ids = [0, 1]


REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {
    "compiled": (
        lambda: compiled(network()),
        "wrapped-model",
        "._orig_mod",
    ),
    "compiled part": (
        lambda: nn.Sequential(compiled(nn.Linear(5, 3))),
        "wrapped-model",
        "'0' is a OptimizedModule",
    ),
    "checkpointed": (
        lambda: checkpoint_wrapper(network()),
        "wrapped-model",
        "other names than where they are; grow the module inside it",
    ),
    "scripted": (lambda: scripted(network()), "wrapped-model", "TorchScript"),
    "scripted part": (
        lambda: nn.Sequential(nn.Linear(5, 6), scripted(nn.ReLU()), nn.Linear(6, 3)),
        "wrapped-model",
        "'1' is a RecursiveScriptModule",
    ),
    "replicating": (lambda: Replicating(network()), "wrapped-model", "grow that and wrap"),
    "quantized": (quantized, "quantized-model", "quantize it then"),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(3)), "uninitialized", "run the model once"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("call", ["capture", "couple", "widen", "grow"])
def test_refused_in_one_sentence(name: str, call: str) -> None:
    make, code, words = REFUSED[name]
    calls: dict[str, Callable[[Any], Any]] = {
        "capture": lambda m: fxgrow.capture(m, INPUTS),
        "couple": lambda m: fxgrow.couple(m, INPUTS),
        "widen": lambda m: fxgrow.widen(m, {"0": 1}, INPUTS),
        "grow": lambda m: fxgrow.grow(m, [(INPUTS, LABELS)], F.cross_entropy),
    }
    with pytest.raises(ModelError) as error:
        calls[call](make())
    assert error.value.code == code and words in str(error.value)


class Quantizable(nn.Module):
    """A residual network in floating point, ready to be quantized as torchvision's are."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.add = torch.ao.nn.quantized.FloatFunctional()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.a(x)
        out: torch.Tensor = self.c(self.add.add(h, self.b(torch.tanh(h))))
        return out


def test_models_that_are_to_be_quantized_grow() -> None:
    model = Quantizable().double()
    x = INPUTS.double()
    wider = fxgrow.widen(model, {"a": 2}, x).module
    torch.testing.assert_close(wider(x), model(x), rtol=1e-12, atol=1e-12)
    assert fxgrow.capture(model, x).how is fxgrow.capture(network(), INPUTS).how


@pytest.fixture
def one_process() -> Iterator[None]:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_distributed_models_are_refused() -> None:
    sharded = network()
    fully_shard(sharded, mesh=init_device_mesh("cpu", (1,)))
    with pytest.raises(ModelError, match="couple, widen, grow and Grower take it") as error:
        fxgrow.capture(sharded, INPUTS)
    assert error.value.code == "wrapped-model"
    for inplace in (False, True):
        wrapped = nn.parallel.DistributedDataParallel(network())
        with pytest.raises(ModelError) as error:  # which only ``grow`` wraps again
            fxgrow.widen(wrapped, {"0": 1}, INPUTS, inplace=inplace)
        assert error.value.code == "wrapped-model"


@pytest.mark.usefixtures("one_process")
def test_what_is_inside_a_wrapper_of_one_process_grows() -> None:
    wrapped = nn.parallel.DistributedDataParallel(network())
    growth = fxgrow.grow(
        wrapped, [(INPUTS, LABELS)], F.cross_entropy, inplace=True, accept_no_gain=True
    )
    assert growth.module is wrapped.module
    F.cross_entropy(wrapped(INPUTS), LABELS).backward()
    assert all(parameter.grad is not None for parameter in wrapped.parameters())


def made_in_inference_mode() -> nn.Module:
    with torch.inference_mode():
        return network()


@pytest.mark.parametrize("make", [lambda: network().to("meta"), made_in_inference_mode])
def test_a_model_without_usable_values_is_widened_but_not_grown(
    make: Callable[[], nn.Module],
) -> None:
    assert fxgrow.widen(make(), {"0": 1}, INPUTS).module.get_parameter("0.weight").shape == (7, 5)
    with pytest.raises(ModelError) as error:
        fxgrow.grow(make(), [(INPUTS, LABELS)], F.cross_entropy)
    assert error.value.code == "no-values"


def compiled_in_place() -> nn.Module:
    model = network()
    model.compile(backend="eager")
    model(INPUTS)
    return model


def initialized_lazy() -> nn.Module:
    model = nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.LazyLinear(3))
    model(INPUTS)
    return model


WORKING: dict[str, Callable[[], nn.Module]] = {
    "data parallel without GPUs": lambda: nn.DataParallel(network(), device_ids=[]),
    "averaged": lambda: AveragedModel(network()),
    "compiled in place": compiled_in_place,
    "lazy, after a run": initialized_lazy,
}


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("name", WORKING)
def test_works(name: str, inplace: bool) -> None:
    model = WORKING[name]()
    assert any(width.growable for width in fxgrow.couple(model, INPUTS).widths)
    fxgrow.widen(model, {"*": 1}, INPUTS)
    growth = fxgrow.grow(model, [(INPUTS, LABELS)], F.cross_entropy, method=QUICK, inplace=inplace)
    loss = float(F.cross_entropy(growth.module(INPUTS), LABELS).detach())
    assert growth.report.widths and loss == pytest.approx(growth.report.loss_after, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", [QUICK, fxgrow.Splitting()])
def test_half_precision_grows(dtype: torch.dtype, method: Any) -> None:
    torch.manual_seed(0)
    model = network().to(dtype)
    batch = INPUTS.to(dtype), LABELS
    growth = fxgrow.grow(
        model,
        [batch],
        lambda out, y: F.cross_entropy(out.float(), y),
        method=method,
        accept_no_gain=True,  # splits of so small a network need not gain in so few digits
    )
    parameters = list(growth.module.parameters())
    assert growth.report.widths and growth.report.loss_after <= growth.report.loss_before
    assert all(p.dtype == dtype and p.isfinite().all() for p in parameters)
