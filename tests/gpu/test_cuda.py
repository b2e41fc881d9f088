"""On a GPU everything is as on the processor. Skipped where there is none."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget, Firefly, RandomGrowth
from fxgrow.cells import SearchSpace
from fxgrow.cells.registry import SEARCHES
from fxgrow.continual import Master, MasterSettings, TrainSettings
from fxgrow.continual.expansion import ScoredExpansion
from fxgrow.data import batches as batched
from fxgrow.data import load_data
from tests.networks import NETWORKS, images, network

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

SMALL = Firefly(new=2, steps=4)


def batches(dtype: torch.dtype = torch.float64) -> list[Any]:
    labels = torch.Generator().manual_seed(3)
    return [
        (images(8, seed).to("cuda", dtype), torch.randint(0, 2, (8,), generator=labels).cuda())
        for seed in range(2)
    ]


def grown(module: nn.Module, **options: Any) -> fxgrow.Growth:
    dtype = next(module.parameters()).dtype
    settings = {"method": SMALL, "budget": Budget(neurons=3)} | options
    inputs = images().to("cuda", dtype)
    return fxgrow.grow(
        module, batches(dtype), F.cross_entropy, example_inputs=(inputs,), **settings
    )


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("tf32", [False, True])
def test_promises(name: str, tf32: bool) -> None:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        for dtype in (torch.float64, torch.float32):
            growth = grown(network(name).to("cuda", dtype))
            assert torch.backends.cudnn.allow_tf32 == tf32
            assert all(
                one.is_cuda for one in (*growth.module.parameters(), *growth.module.buffers())
            )
            assert growth.report.loss_after <= growth.report.loss_before + (1e-3 if tf32 else 1e-6)
    finally:
        torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("name", NETWORKS)
def test_the_processor_grows_the_same(name: str) -> None:
    there, here = grown(network(name).cuda()), network(name)
    local = [(x.cpu(), y.cpu()) for x, y in batches()]
    here_too = fxgrow.grow(
        here,
        local,
        F.cross_entropy,
        example_inputs=(images(),),
        method=SMALL,
        budget=Budget(neurons=3),
    )
    assert there.report.widths[0].width == here_too.report.widths[0].width
    assert there.report.loss_after == pytest.approx(here_too.report.loss_after, rel=1e-6)


@pytest.mark.parametrize(
    "method",
    [
        SMALL.model_copy(update={"layers": 4}),
        RandomGrowth(new=2),
        Firefly(new=2, steps=4, precision="bf16"),
    ],
)
def test_methods(method: Any) -> None:
    assert grown(network("residual").float().cuda(), method=method).report.faithful_error < 1e-4


def test_within_a_bound_of_memory() -> None:
    most = grown(network("residual").cuda()).report.peak_memory
    report = grown(network("residual").cuda(), memory_limit=0.8 * most).report
    assert len(report.chunks) > 1


@pytest.mark.filterwarnings("ignore")  # torch.compile's own
def test_the_optimizer_comes_along_and_compiled_steps_agree() -> None:
    module = network("residual").float().cuda()
    optimizer = torch.optim.Adam(module.parameters())
    x, y = batches(torch.float32)[0]
    F.cross_entropy(module(x), y).backward()
    optimizer.step()
    growth = grown(module, optimizer=optimizer)
    assert growth.optimizer is not None
    fast = torch.compile(growth.module)
    torch.testing.assert_close(fast(x), growth.module(x), rtol=1e-3, atol=1e-3)
    F.cross_entropy(fast(x), y).backward()
    growth.optimizer.step()


def test_saved_here_and_loaded_on_the_processor(tmp_path: Any) -> None:
    growth = grown(network("residual").cuda())
    growth.module.eval()
    fxgrow.save(growth, tmp_path / "spec")
    loaded = fxgrow.load(tmp_path / "spec").eval()
    x = images(4, 9)
    torch.testing.assert_close(loaded(x), growth.module.eval()(x.cuda()).cpu())


@pytest.mark.parametrize("name", SEARCHES)
def test_cell_searches(name: str) -> None:
    space = SearchSpace(operations=("skip_connect", "sep_conv_3x3"), nodes=1, cells=3, channels=2)
    splits = load_data("digits", size=8, train_size=48, test_size=16).to("cuda")
    method = SEARCHES[name]
    known = {"epochs": 2, "batch_size": 16, "grow_every": 1, "growth_batches": 1, "candidates": 4}
    method = method.model_copy(
        update={key: value for key, value in known.items() if key in type(method).model_fields}
    )
    assert method.search(space, splits.train, splits.test).genotype in space


def test_a_master_network_forgets_nothing() -> None:
    splits = load_data("digits", size=8, channels=3, train_size=64, test_size=16).to("cuda")
    module = network("residual").float().cuda()
    master = Master(
        module, splits.train.images[:1],
        settings=MasterSettings(train=TrainSettings(epochs=1), growth_batches=1),
        expansion=ScoredExpansion(method=Firefly(new=1, steps=1, refine_steps=1, points=1)),
    )  # fmt: skip
    reference_outputs = []
    for task in ("a", "b"):
        train, valid = (list(batched(part, 16)) for part in (splits.train, splits.test))
        master.learn(task, train, valid, classes=10, budget=Budget(neurons=3))
        reference_outputs.append(master.network("a").eval()(splits.test.images))
    assert torch.equal(*reference_outputs)


def test_entries_count_their_own_steps_in_a_captured_graph() -> None:
    """A replayed step is the step that Python would do."""
    models = [nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).cuda() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    inputs = torch.randn(8, 4, device="cuda")
    steps = []
    for model in models:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, capturable=True)

        def step(model: nn.Module = model, optimizer: Any = optimizer) -> None:
            optimizer.zero_grad(set_to_none=False)
            model(inputs).square().mean().backward()
            optimizer.step()

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # warmed up as torch asks for it
            for _ in range(3):
                step()
            rate = fxgrow.NewEntryRate(half_life=3)
            options: dict[str, Any] = {"state": "own-age", "new_entry_rate": rate, "inplace": True}
            fxgrow.widen(model, {"0": 2}, inputs, how="new", optimizer=optimizer, **options)
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        steps.append(step)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        steps[0]()
    for _ in range(5):
        graph.replay()
        steps[1]()
    for replayed, stepped in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(replayed, stepped)
