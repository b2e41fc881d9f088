"""What ``widen``, ``deepen`` and ``grow_to`` did is saved, found in a diff, and done again from the history alone."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow.growth import described_model, regrow, replay
from fxgrow.growth.lineage import Lineage
from fxgrow.spec import ArchitectureSpec, GrowthStep, diff, read_spec
from tests.networks import randomised

SIZE = 4


class Block(nn.Module):
    """Pre-norm; asks for the shape of its input first, as attention does."""

    def __init__(self, hidden: int = 5) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(SIZE)
        self.up, self.down = nn.Linear(SIZE, hidden), nn.Linear(hidden, SIZE)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.shape[1]
        return x + self.down(F.gelu(self.up(self.norm(x)) / tokens))


class Stack(nn.Module):
    def __init__(self, depth: int = 2, hidden: int = 5) -> None:
        super().__init__()
        self.stem = nn.Linear(3, SIZE)
        self.blocks = nn.ModuleList(Block(hidden) for _ in range(depth))
        self.head = nn.Linear(SIZE, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Stage(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(size, size, 3, padding=1), nn.BatchNorm2d(size)
        self.conv2, self.bn2 = nn.Conv2d(size, size, 3, padding=1), nn.BatchNorm2d(size)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))).relu()


def resnet() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Sequential(Stage(4), Stage(4)))


TOKENS = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
IMAGES = torch.randn(2, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
CASES = {"transformer": (Stack, "blocks", TOKENS), "resnet": (resnet, "2", IMAGES)}
WAYS: dict[str, dict[str, Any]] = {
    "end": {},
    "spread": {"where": "spread"},
    "stack": {"how": "stack"},
    "middle": {"how": "middle"},
}


@pytest.mark.parametrize(
    ("case", "way"), [*(("transformer", way) for way in WAYS), ("resnet", "spread")]
)
def test_a_deeper_model_is_saved_with_its_step_and_replayed(
    case: str, way: str, tmp_path: Path
) -> None:
    make, path, inputs = CASES[case]
    model = randomised(make())
    first = fxgrow.save(model, tmp_path / "first", inputs)
    deeper = fxgrow.deepen(model, {path: 2}, inputs, **WAYS[way])
    spec = fxgrow.save(deeper, tmp_path / "deep")
    assert torch.equal(fxgrow.load(tmp_path / "deep")(inputs), deeper.module(inputs))
    (step,) = read_spec(tmp_path / "deep").history
    assert (step.parent, step.method.name, step.num_blocks) == (first.fingerprint, "deepen", 2)
    assert (step.cost_before, step.cost_after) == (first.cost, spec.cost)
    assert [one.fingerprint for one in replay(first, (step,))] == [spec.fingerprint]
    again = regrow(copy.deepcopy(model), (inputs,), (step,))
    assert type(again) is type(model)
    again.load_state_dict(deeper.module.state_dict())
    assert torch.equal(again(inputs), deeper.module(inputs))
    # And on the graph of the first directory, which has no list any more.
    graph = regrow(fxgrow.load(tmp_path / "first"), (inputs,), (step,))
    graph.load_state_dict(deeper.module.state_dict())
    assert torch.equal(graph(inputs), deeper.module(inputs))


def test_the_diff_names_the_blocks_and_explains_all_of_the_rest(tmp_path: Path) -> None:
    model = randomised(Stack())
    first = fxgrow.save(model, tmp_path / "first", TOKENS)
    spec = fxgrow.save(fxgrow.deepen(model, {"blocks": 2}, TOKENS), tmp_path / "deep")
    there, back = diff(first, spec), diff(spec, first)
    assert [(layer.name, layer.form) for layer in there.layers] == [
        ("blocks.2", "block"),
        ("blocks.3", "block"),
    ]
    per_block = sum(parameter.numel() for parameter in model.blocks[0].parameters())
    assert {layer.parameters for layer in there.layers} == {per_block}
    assert there.inserted == () and there.unexplained() == ()
    assert {layer.change for layer in back.layers} == {"removed"} and back.removed == ()


def test_steps_after_one_another_and_a_growth_behind_them(tmp_path: Path) -> None:
    model = randomised(Stack())
    first = fxgrow.save(model, tmp_path / "first", TOKENS)
    deeper = fxgrow.deepen(model, {"blocks": (0,)}, TOKENS)
    wider = fxgrow.widen(
        deeper.module, {"blocks.1.up": 3}, TOKENS, how="new", history=deeper.lineage
    )
    spec = fxgrow.save(wider, tmp_path / "second")
    assert [step.method.name for step in spec.history] == ["deepen", "widen"]
    assert replay(first, spec.history)[-1].fingerprint == spec.fingerprint
    loaded = fxgrow.load(tmp_path / "second")
    again = fxgrow.widen(loaded, {"blocks.2.up": 1}, TOKENS)
    last = fxgrow.save(again, tmp_path / "third")
    assert last.history[:2] == spec.history and last.history[2].parent == spec.fingerprint
    assert replay(first, last.history)[-1].fingerprint == last.fingerprint


def test_a_stream_under_norms_is_replayed() -> None:
    model = randomised(Stack())
    wider = fxgrow.widen(model, {"stem": 3}, TOKENS, how="new")
    first, spec = _spec(model), _spec(wider)
    (step,) = spec.history
    assert [(change.before, change.new) for change in step.widths] == [(SIZE, 3)]
    assert step.preservation_error is not None and step.preservation_error < 1e-9
    assert replay(first, spec.history)[-1].fingerprint == spec.fingerprint
    twice = _spec(fxgrow.widen(model, {"stem": SIZE}, TOKENS))
    assert replay(first, twice.history)[-1].fingerprint == twice.fingerprint


def test_growing_to_a_bigger_model_is_two_steps() -> None:
    model, big = randomised(Stack()), randomised(Stack(depth=3, hidden=8))
    spec = _spec(fxgrow.grow_to(model, like=big, example_inputs=TOKENS))
    assert [step.method.name for step in spec.history] == ["deepen", "widen"]
    assert (
        replay(_spec(model), spec.history)[-1].fingerprint
        == spec.fingerprint
        == _spec(big).fingerprint
    )


def test_in_place_the_model_before_is_remembered_as_shapes() -> None:
    model = randomised(Stack())
    first = _spec(model)
    deeper = fxgrow.deepen(model, {"blocks": 1}, TOKENS, inplace=True)
    (pending,) = deeper.lineage.pending
    assert {parameter.device.type for parameter in pending.before.parameters()} == {"meta"}
    assert _spec(deeper).history[0].parent == first.fingerprint


def test_a_list_of_another_length_is_not_the_one_of_the_history() -> None:
    history = _spec(fxgrow.deepen(randomised(Stack()), {"blocks": 1}, TOKENS)).history
    for model in (Stack(3), resnet()):
        inputs = TOKENS if isinstance(model, Stack) else IMAGES
        with pytest.raises(fxgrow.SpecError, match="blocks'") as refusal:
            regrow(model.double(), (inputs,), history)
        assert refusal.value.code == "not-replayable"


@pytest.mark.parametrize(
    "update",
    [
        {"sources": (0, 1, 7), "new": (2,)},
        {"sources": (0, 0, 1), "new": (0,)},
        {"sources": (), "new": ()},
        {"regions": ()},
        {"blocks": "nowhere"},
    ],
    ids=str,
)
def test_a_history_that_was_changed_is_refused(update: dict[str, Any]) -> None:
    model = randomised(Stack())
    spec = _spec(fxgrow.deepen(model, {"blocks": 1}, TOKENS))
    (step,) = spec.history
    record = step.blocks[0].model_copy(update=update)
    wrong: tuple[GrowthStep, ...] = (step.model_copy(update={"blocks": (record,)}),)
    with pytest.raises(fxgrow.SpecError) as refusal:
        replay(_spec(model), wrong)
    assert refusal.value.code == "not-replayable"


def _spec(model: Any) -> ArchitectureSpec:
    is_module = isinstance(model, nn.Module)
    return described_model(model, TOKENS if is_module else None).spec


class Branching(Stack):
    """Asks for the value of a tensor, which shapes do not have."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("times", torch.tensor(2))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(int(self.times)):
            x = x / 2
        return super().forward(x)


def test_a_model_whose_past_cannot_be_described_is_saved_with_a_warning(tmp_path: Path) -> None:
    deeper = fxgrow.deepen(randomised(Stack()), {"blocks": 1}, TOKENS)
    (step,) = deeper.lineage.pending
    past = replace(step, before=Branching().double().to("meta"))
    deeper = replace(deeper, lineage=Lineage(pending=(past,)))
    with pytest.warns(UserWarning, match="saved without its growth history"):
        spec = fxgrow.save(deeper, tmp_path / "deep")
    assert spec.history == ()
    assert torch.equal(fxgrow.load(tmp_path / "deep")(TOKENS), deeper.module(TOKENS))
