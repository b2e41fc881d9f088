"""What ``fully_shard`` was told stays so across growth, and a model that did not grow is as it was."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, Shard
from torch.nn import functional as F

import fxgrow
from fxgrow import Budget, Firefly, GrowthError, ModelError, capture, couple
from fxgrow.methods import ZeroOutgoing
from fxgrow.modes import frozen_parameters
from fxgrow.rewrite import overgrow
from fxgrow.sharding import plain_inside
from fxgrow.sharding.gathering import GatheringTensor
from fxgrow.surgery import IndexMap, resize
from fxgrow.training import Grower, OnPlateau, regrow_from_state
from tests.growth.rank_cases import DEEPER, _step, batches, transformer

KEPT = batches(slice(0, 10))
X = KEPT[0][0]


def sharded(mesh: Any, **options: Any) -> Any:
    model: Any = transformer()
    for block in model.blocks:
        fully_shard(block, mesh=mesh, **options)
    return fully_shard(model, mesh=mesh, **options)


def widened(model: Any, **options: Any) -> Any:
    return fxgrow.widen(model, {"blocks.0.up": 2}, X, **options)


def grown(model: Any, **options: Any) -> Any:
    given = {"method": ZeroOutgoing(), "budget": Budget(neurons=4), **options}
    return fxgrow.grow(model, KEPT, F.cross_entropy, accept_no_gain=True, **given)


def group_of(module: Any) -> Any:
    return module._get_fsdp_state()._fsdp_param_groups[0]


@pytest.mark.parametrize("inplace", [False, True])
def test_settings_are_kept(mesh: Any, inplace: bool) -> None:
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    model = sharded(mesh, mp_policy=policy, reshard_after_forward=False)
    model.set_modules_to_forward_prefetch([model.blocks[1]])
    model.set_gradient_divide_factor(3.0)
    model.blocks[0].set_requires_gradient_sync(False)
    module = widened(model, inplace=inplace).module
    assert (module is model) == inplace
    state = module._get_fsdp_state()
    assert state._mp_policy == policy and group_of(module).mesh_info.mesh == mesh
    assert group_of(module).post_forward_mesh_info is None
    assert group_of(module).gradient_divide_factor == 3.0
    assert not group_of(module.blocks[0]).reduce_grads and group_of(module.blocks[1]).reduce_grads
    assert state._states_to_forward_prefetch == [module.blocks[1]._get_fsdp_state()]
    assert all(isinstance(parameter, DTensor) for parameter in module.parameters())
    assert module(X).dtype is torch.bfloat16


def test_several_modules_of_one_unit_stay_one(mesh: Any) -> None:
    model: Any = transformer()
    fully_shard([model.norm, model.head], mesh=mesh)
    fully_shard(model, mesh=mesh)
    module = widened(model).module
    assert module.norm._get_fsdp_state() is module.head._get_fsdp_state()
    assert module.norm._get_fsdp_state() is not module._get_fsdp_state()


def test_the_optimizer_has_the_new_shards(mesh: Any) -> None:
    model = sharded(mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    _step(model, optimizer, *KEPT[0])
    grown(model, optimizer=optimizer, inplace=True)
    held = optimizer.param_groups[0]["params"]
    assert [id(one) for one in held] == [id(one) for one in model.parameters()]
    for parameter in held:
        moment = optimizer.state[parameter]["exp_avg"]
        assert isinstance(moment, DTensor) and moment.shape == parameter.shape
    _step(model, optimizer, *KEPT[1])


def test_moments_are_cut_as_soon_as_they_have_grown(mesh: Any) -> None:
    model = sharded(mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    _step(model, optimizer, *KEPT[0])
    with plain_inside(model, [optimizer]):
        weight = model.head.weight
        resize(model, {("head.weight", 1): IndexMap.identity(8)}, [optimizer])
        moments = [optimizer.state[weight][name] for name in ("exp_avg", "exp_avg_sq")]
        assert all(isinstance(moment, GatheringTensor) for moment in moments)


def test_what_an_optimizer_begins_anew_is_cut(mesh: Any) -> None:
    model = sharded(mesh)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=1e-2)
    _step(model, optimizer, *KEPT[0])
    growth = grown(model, optimizer=optimizer, state="reset")
    for parameter in growth.module.parameters():
        assert isinstance(growth.optimizer.state[parameter]["sum"], DTensor)
    _step(growth.module, growth.optimizer, *KEPT[1])


def test_a_copy_grows_and_the_model_trains_on(mesh: Any) -> None:
    model = sharded(mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    _step(model, optimizer, *KEPT[0])
    before, state = list(model.parameters()), dict(optimizer.state)
    growth = grown(model, optimizer=optimizer)
    assert all(one is other for one, other in zip(before, model.parameters(), strict=True))
    assert optimizer.state == state and group_of(model)
    numbers = [one.to_local().clone() for one in model.parameters()]
    _step(growth.module, growth.optimizer, *KEPT[1])
    for one, number in zip(model.parameters(), numbers, strict=True):
        assert torch.equal(one.to_local(), number), "what did not grow is shared no longer"
    _step(model, optimizer, *KEPT[1])


def test_autograd_keeps_no_weights_with_candidates_below(mesh: Any) -> None:
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    inside = sharded(mesh)
    with plain_inside(inside), frozen_parameters(inside):
        coupling = couple(captured := capture(inside, X))
        proposal = Firefly(new=2).propose(coupling)
        given = proposal.split, proposal.new, torch.Generator()
        graph = overgrow(captured, coupling, *given).graph_module
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            graph(X)
    rows = {
        size for tensor in kept if not isinstance(tensor, GatheringTensor) for size in tensor.shape
    }
    # 12 rows, as many that split and two new ones.
    assert any(isinstance(tensor, GatheringTensor) for tensor in kept) and 26 not in rows


def test_methods_that_gather_go_on_gathering(mesh: Any) -> None:
    class Scored(nn.Sequential):
        def scores(self, x: Tensor) -> Tensor:
            found: Tensor = super().forward(x)  # type: ignore[no-untyped-call]  # torch has no types there
            return found

        def forward(self, x: Tensor) -> Tensor:
            return self.scores(x)

    model: Any = fully_shard(Scored(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), mesh=mesh)
    register_fsdp_forward_method(model, "scores")
    x = torch.randn(5, 3)
    before = model.scores(x)
    for inplace in (False, True):
        wider = fxgrow.widen(model, {"0": 2}, x, inplace=inplace).module
        for module in (wider, model):
            torch.testing.assert_close(module.scores(x), before)  # type: ignore[operator]
            torch.testing.assert_close(module(x), before)


def test_tied_and_ignored_parameters_stay_so(mesh: Any) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.scale = nn.Embedding(5, 4), nn.Parameter(torch.ones(()))
            self.up, self.down = nn.Linear(4, 3), nn.Linear(3, 4)
            self.head = nn.Linear(4, 5, bias=False)
            self.head.weight = self.tokens.weight

        def forward(self, x: Tensor) -> Tensor:
            h = self.tokens(x)
            scores: Tensor = self.head(h + self.down(torch.relu(self.up(h))))
            return scores * self.scale

    torch.manual_seed(0)
    model: Any = Tied()
    fully_shard(model, mesh=mesh, ignored_params={model.scale})
    scale, x = model.scale, torch.tensor([[0, 3, 1]])
    before = model(x)
    fxgrow.widen(model, {"up": 2}, x, inplace=True)
    assert model.scale is scale and model.head.weight is model.tokens.weight
    torch.testing.assert_close(model(x), before)
    assert model.up.out_features == 5


def test_layers_of_a_graph_are_units(mesh: Any) -> None:
    growth = grown(model := sharded(mesh), inplace=True, **DEEPER)
    marked = [name for one in model.modules() for name in vars(one) if name.startswith("_fxgrow")]
    assert growth.module is not model and not marked
    assert growth.report.layers, "layers were inserted"
    F.cross_entropy(growth.module(X), KEPT[0][1]).backward()
    for name, parameter in growth.module.named_parameters():
        assert isinstance(parameter, DTensor) and parameter.grad is not None, name


def test_a_grower_grows_a_sharded_model(mesh: Any) -> None:
    model = sharded(mesh)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    grower = Grower(
        model,
        optimizer,
        loss_fn=F.cross_entropy,
        when=OnPlateau(patience=1),
        method=ZeroOutgoing(),
        budget=Budget(neurons=4),
    )
    steps = []
    for _ in range(3):
        _step(model, optimizer, *KEPT[0])
        steps.append(grower.step(KEPT, loss=1.0) is not None)
    assert steps == [False, False, True] and grower.model is model
    _step(model, optimizer, *KEPT[0])


def test_a_failure_leaves_the_very_same_shards(mesh: Any) -> None:
    model = sharded(mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    _step(model, optimizer, *KEPT[0])
    before = [(one, one.to_local().clone(), one.grad) for one in model.parameters()]

    def loss(output: Tensor, target: Tensor) -> Tensor:
        if any(one.shape[0] > 24 for one in optimizer.param_groups[0]["params"]):
            raise ValueError("it has grown")
        return F.cross_entropy(output, target)

    with pytest.raises(GrowthError, match="it has grown"):
        fxgrow.grow(
            model, KEPT, loss, method=Firefly(new=1, steps=1), optimizer=optimizer, inplace=True,
            budget=Budget(neurons=60), only=["blocks.0.up"], accept_no_gain=True,
        )  # fmt: skip
    for parameter, (old, local, gradient) in zip(model.parameters(), before, strict=True):
        assert parameter is old and torch.equal(parameter.to_local(), local)
        assert parameter.grad is gradient
    _step(model, optimizer, *KEPT[1])


def by_columns(parameter: nn.Parameter) -> Shard | None:
    return Shard(1) if parameter.dim() == 2 else None


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "offloaded": ({"offload_policy": CPUOffloadPolicy(pin_memory=False)}, "CPUOffloadPolicy"),
    "by columns": ({"shard_placement_fn": by_columns}, "not cut by rows alone"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_shards_are_refused_by_name(name: str, mesh: Any) -> None:
    options, words = REFUSED[name]
    model = sharded(mesh, **options)
    with pytest.raises(ModelError, match=words) as error:
        widened(model)
    assert error.value.code == "wrapped-model" and isinstance(model, FSDPModule)


def test_a_parameter_with_hooks_is_refused(mesh: Any) -> None:
    model = sharded(mesh)
    model.head.weight.register_hook(lambda gradient: gradient)
    with pytest.raises(ModelError, match=r"'head\.weight' has hooks"):
        widened(model)


@pytest.mark.parametrize(
    "options", [{"state": "own-age"}, {"new_entry_rate": fxgrow.NewEntryRate(multiplier=2.0)}]
)
def test_steps_of_entries_are_refused(options: dict[str, Any], mesh: Any) -> None:
    model = sharded(mesh)
    optimizer = torch.optim.AdamW(model.parameters())
    for grow in (widened, grown):
        with pytest.raises(GrowthError, match="sharded parameters") as error:
            grow(model, optimizer=optimizer, **options)
        assert error.value.code == "state-rule"


WHOLE_ONLY: dict[str, Callable[[Any], object]] = {
    "capture": lambda model: fxgrow.capture(model, X),
    "deepen": lambda model: fxgrow.deepen(model, {"blocks": 1}, X),
    "grow_to": lambda model: fxgrow.grow_to(model, transformer(), X),
    "grow_to, like": lambda model: fxgrow.grow_to(transformer(), model, X),
    "grow_classes": lambda model: fxgrow.grow_classes(model, 6, X),
    "grow_vocabulary": lambda model: fxgrow.grow_vocabulary(model, 6, X),
    "grow_experts": lambda model: fxgrow.grow_experts(model, 2, X),
    "upcycle": lambda model: fxgrow.upcycle(model, {"blocks.*": 2}, X),
    "lower": fxgrow.lower,
    "save": lambda model: fxgrow.save(model, "nowhere", X),
    "regrow": lambda model: regrow_from_state(model, {}, X),
}


@pytest.mark.parametrize("name", WHOLE_ONLY)
def test_what_takes_whole_models_says_so(name: str, mesh: Any) -> None:
    with pytest.raises(ModelError, match="shard") as error:
        WHOLE_ONLY[name](sharded(mesh))
    assert error.value.code == "wrapped-model"


def test_a_file_of_whole_weights_is_refused(mesh: Any, tmp_path: Any) -> None:
    wider = widened(sharded(mesh))
    growth = grown(sharded(mesh))
    for write in (
        lambda: fxgrow.save(wider, tmp_path / "file"),
        lambda: fxgrow.save(growth, tmp_path / "file"),
        lambda: fxgrow.export(growth, "pt2", tmp_path / "file"),
    ):
        with pytest.raises(ModelError, match="sharded") as error:
            write()
        assert error.value.code == "wrapped-model" and not (tmp_path / "file").exists()
