"""Growth under Hugging Face's Trainer: the config follows, and what was saved is loaded and goes on."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fxgrow import Budget, Splitting, ZeroOutgoing
from fxgrow.errors import SpecError, TrainingError
from fxgrow.growth import ALL_WIDTHS
from fxgrow.training import AtEpochs, ByPromise, EqualPhases, OnPlateau, UntilNoGain

transformers: Any = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.filterwarnings("ignore")

from fxgrow.integrations.transformers import (  # noqa: E402
    GrowthTrainerCallback,
    own_loss,
    regrow_from_checkpoint,
    smoothed_loss,
)

WORDS = torch.randint(0, 31, (12, 6), generator=torch.Generator().manual_seed(0))


def model(layers: int = 2) -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=31,
        n_embd=8,
        n_layer=layers,
        n_head=2,
        n_positions=8,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config)


def callback(**options: Any) -> GrowthTrainerCallback:
    given: dict[str, Any] = {
        "when": AtEpochs(epochs=(1, 2)),
        "grow_steps": 2,
        "method": ZeroOutgoing(),
        "budget": Budget(neurons=4),
        "accept_no_gain": True,
    }
    return GrowthTrainerCallback(**{**given, **options})


def train(
    model: Any,
    growth: GrowthTrainerCallback,
    out: Path,
    epochs: int = 3,
    resume: Path | None = None,
) -> Any:
    args = transformers.TrainingArguments(
        out,
        num_train_epochs=epochs,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        save_strategy="epoch",
        logging_strategy="epoch",
        eval_strategy="epoch",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    data = [{"input_ids": words, "labels": words} for words in WORDS]
    trainer = transformers.Trainer(
        model, args, train_dataset=data, eval_dataset=data[:4], callbacks=[growth]
    )
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return trainer


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A model that grew in training, and the directory of its checkpoints."""
    out, grown = tmp_path_factory.mktemp("trained"), model()
    train(grown, callback(), out)
    return grown, out


def test_it_grows_and_its_config_follows(trained: tuple[Any, Path]) -> None:
    grown, out = trained
    assert grown.config.n_inner == 36  # four neurons twice, shared by two layers
    loaded = transformers.GPT2LMHeadModel.from_pretrained(out / "checkpoint-9").eval()
    found, expected = (one(input_ids=WORDS).logits for one in (loaded, grown.eval()))
    torch.testing.assert_close(found, expected)


def test_a_training_that_was_stopped_ends_with_the_same_weights(
    trained: tuple[Any, Path], tmp_path: Path
) -> None:
    grown, out = trained
    again, kept = model(), out / "checkpoint-6"
    regrow_from_checkpoint(again, kept)
    assert again.config.n_inner == 34
    train(again, callback(), tmp_path, resume=kept)
    for name, tensor in grown.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=1e-6, atol=1e-6)


def test_a_trigger_reads_the_losses(tmp_path: Path) -> None:
    growth = callback(when=OnPlateau(patience=1))
    train(model(), growth, tmp_path)
    assert growth.grower is not None
    measured = growth.grower.history.measurements
    assert [one.epoch for one in measured] == [1, 2]
    assert all(one.loss > 0 and one.validation_loss for one in measured)


def test_other_widths_grow_when_they_are_asked_for(tmp_path: Path) -> None:
    grown = model()
    train(grown, callback(scope=ALL_WIDTHS, budget=Budget(neurons=1)), tmp_path)
    assert sum(parameter.numel() for parameter in grown.parameters()) > sum(
        parameter.numel() for parameter in model().parameters()
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [("{}", "no-growth"), ("[]", "bad-value"), ("{", "bad-value"), ("[" * 100_000, "bad-value")],
)
def test_a_checkpoint_without_growth_is_refused(text: str, code: str, tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_text(text)
    with pytest.raises(SpecError) as caught:
        regrow_from_checkpoint(model(), tmp_path)
    assert caught.value.code == code


def test_a_state_that_was_changed_is_refused(trained: tuple[Any, Path], tmp_path: Path) -> None:
    state = json.loads((trained[1] / "checkpoint-6" / "trainer_state.json").read_text())
    grown = state["stateful_callbacks"]["GrowthTrainerCallback"]["attributes"]["growth"]["grown"]
    grown[0]["widths"][0]["before"] = 7
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    with pytest.raises(SpecError) as caught:
        regrow_from_checkpoint(model(), tmp_path)
    assert caught.value.code == "not-replayable"


def run(
    model: Any,
    growth: GrowthTrainerCallback,
    out: Path,
    *,
    resume: Path | None = None,
    data: Any = None,
    **options: Any,
) -> Any:
    """Train with what ``TrainingArguments`` may be given."""
    given = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
    }
    examples = [{"input_ids": words, "labels": words} for words in WORDS]
    evaluated = examples[:4] if options.get("eval_strategy", "no") != "no" else None
    extra = {name: options.pop(name) for name in ("compute_metrics",) if name in options}
    trainer = transformers.Trainer(
        model,
        transformers.TrainingArguments(out, **{**given, **options}),
        train_dataset=examples if data is None else data,
        eval_dataset=evaluated,
        callbacks=[growth],
        **extra,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return trainer


def measured(growth: GrowthTrainerCallback) -> list[tuple[int, int, float]]:
    assert growth.grower is not None
    return [(one.epoch, one.step, one.loss) for one in growth.grower.history.measurements]


def test_the_loss_is_the_mean_over_steps_however_often_it_is_logged(tmp_path: Path) -> None:
    never_grows = OnPlateau(patience=2)  # as every epoch lowers the loss
    every_epoch, every_two, never = (callback(when=never_grows) for _ in range(3))
    run(model(1), every_epoch, tmp_path, logging_strategy="epoch")
    run(model(1), every_two, tmp_path, logging_strategy="steps", logging_steps=2)
    run(model(1), never, tmp_path)
    expected = measured(every_epoch)
    assert [epoch for epoch, _, _ in expected] == [1, 2] and expected[0][2] > expected[1][2] > 2
    for growth in (every_two, never):
        assert [one[:2] for one in measured(growth)] == [(1, 3), (2, 6)]
        losses = [loss for _, _, loss in measured(growth)]
        assert losses == pytest.approx([loss for _, _, loss in expected], rel=1e-6)


def test_steps_are_those_of_the_optimizer_where_gradients_are_accumulated(tmp_path: Path) -> None:
    growth, grown = callback(grow_steps=1), model(1)
    # Two of three batches, and the last one.
    run(grown, growth, tmp_path, gradient_accumulation_steps=2)
    assert [step for _, step, _ in measured(growth)] == [2, 4]
    assert grown.config.n_inner == 36


@pytest.mark.parametrize("batches", [1, 2])
def test_a_training_goes_on_from_every_step_with_the_same_bits(
    batches: int, tmp_path: Path
) -> None:
    def grows() -> GrowthTrainerCallback:  # what decides is the loss of whole epochs
        return callback(when=OnPlateau(patience=0, min_delta=0.5), state="own-age")

    # What is saved is logged before, and sums of other logs round otherwise.
    options = {
        "save_strategy": "steps",
        "save_steps": 1,
        "gradient_accumulation_steps": batches,
        "logging_strategy": "steps",
        "logging_steps": 2,
    }
    whole, growth, out = model(1), grows(), tmp_path / "whole"
    run(whole, growth, out, **options)
    assert growth.grower is not None and growth.grower.history.growths == (2,)
    # Within each epoch, and at the end of the first one.
    steps = (2, 3, 5, 8) if batches == 1 else (1, 3)
    for step in steps:
        again, other, kept = model(1), grows(), out / f"checkpoint-{step}"
        regrow_from_checkpoint(again, kept)
        run(again, other, tmp_path / "again", resume=kept, **options)
        assert measured(other) == measured(growth), step
        for name, tensor in whole.state_dict().items():
            assert torch.equal(again.state_dict()[name], tensor), (step, name)


def test_a_training_goes_on_from_the_evaluation_that_a_trigger_reads(tmp_path: Path) -> None:
    when = OnPlateau(patience=0, min_delta=0.5, of="validation_loss")
    growth, options = callback(when=when), {"eval_strategy": "epoch"}
    run(model(1), growth, tmp_path, save_strategy="epoch", **options)
    assert growth.grower is not None and growth.grower.history.growths == (2,)
    for step in (3, 6):
        again, other, kept = model(1), callback(when=when), tmp_path / f"checkpoint-{step}"
        regrow_from_checkpoint(again, kept)
        run(again, other, tmp_path / "again", resume=kept, **options)
        assert other.grower is not None
        assert other.grower.history == growth.grower.history


def test_a_trigger_waits_where_a_checkpoint_came_before_the_evaluation(tmp_path: Path) -> None:
    when = OnPlateau(patience=0, min_delta=0.5, of="validation_loss")
    options = {"eval_strategy": "epoch"}
    run(model(1), callback(when=when), tmp_path, save_strategy="steps", save_steps=3, **options)
    growth, again = callback(when=when), model(1)
    kept = tmp_path / "checkpoint-3"
    regrow_from_checkpoint(again, kept)
    run(again, growth, tmp_path / "again", resume=kept, **options)
    assert [epoch for epoch, _, _ in measured(growth)] == [2]


def test_an_epoch_is_evaluated_at_its_end_if_the_trigger_asks(tmp_path: Path) -> None:
    growth = callback(when=OnPlateau(of="validation_loss", patience=1))
    options = {"eval_strategy": "steps", "eval_steps": 2}
    trainer = run(model(1), growth, tmp_path, **options)
    assert growth.grower is not None
    evaluated = {
        row["step"]: row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row
    }
    # Once at step 6, at which both ask for it.
    assert sorted(evaluated) == [2, 3, 4, 6, 8, 9]
    losses = [one.validation_loss for one in growth.grower.history.measurements]
    assert losses == [evaluated[3], evaluated[6]]


def test_a_trigger_reads_the_accuracy_that_is_computed(tmp_path: Path) -> None:
    growth = callback(when=UntilNoGain(epochs=1, min_delta=0))
    run(
        model(1),
        growth,
        tmp_path,
        eval_strategy="epoch",
        compute_metrics=lambda found: {"accuracy": float((found.label_ids == 3).mean())},
    )
    assert growth.grower is not None and growth.grower.history.growths == (1,)


def test_an_accuracy_that_nobody_computes_is_named(tmp_path: Path) -> None:
    growth = callback(when=UntilNoGain(epochs=1))
    with pytest.raises(TrainingError, match="by 'eval_accuracy', and what was measured is epoch"):
        run(model(1), growth, tmp_path, eval_strategy="epoch")


class Stream(torch.utils.data.IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([{"input_ids": words, "labels": words} for words in WORDS])


def test_epochs_of_a_stream_are_counted(tmp_path: Path) -> None:
    growth, grown = callback(grow_steps=1), model(1)
    run(grown, growth, tmp_path, data=Stream(), max_steps=9)
    assert [(epoch, step) for epoch, step, _ in measured(growth)] == [(1, 3), (2, 6)]
    assert grown.config.n_inner == 36


@pytest.mark.parametrize(
    "options",
    [
        {"bf16": True},
        {"gradient_checkpointing": True},
        {"torch_compile": True, "torch_compile_backend": "aot_eager"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_it_grows_however_the_trainer_computes(options: Any, tmp_path: Path) -> None:
    grown = model(1)
    run(grown, callback(grow_steps=1), tmp_path, num_train_epochs=2, **options)
    assert grown.config.n_inner == 36
    assert bool(vars(grown).get("_original_forward")) == ("bf16" in options), "as it was prepared"


def test_the_loss_of_growth_is_smoothed_as_that_of_training(tmp_path: Path) -> None:
    losses: list[float] = []

    class Noted(transformers.Trainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: Any, **named: Any) -> Any:
            loss = super().compute_loss(model, dict(inputs))
            losses.append(float(loss.detach()))
            return loss

    args = transformers.TrainingArguments(
        tmp_path,
        label_smoothing_factor=0.3,
        max_steps=1,
        per_device_train_batch_size=12,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    data, trained = [{"input_ids": words, "labels": words} for words in WORDS], model(1).eval()
    batch = {"input_ids": WORDS, "labels": WORDS}
    found = float(smoothed_loss(0.3)(trained, batch).detach())
    plain = float(own_loss(trained, batch).detach())
    chosen: Any = callback()._loss_of(args)
    assert float(chosen.fn(trained, batch).detach()) == found
    for module in trained.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    Noted(trained, args, train_dataset=data).train()
    assert found == pytest.approx(losses[0], rel=1e-5) and abs(found - plain) > 1e-3


SETTINGS = {
    "load_best_model_at_end": {"eval_strategy": "epoch", "save_strategy": "epoch"},
    "auto_find_batch_size": {},
    "restore_callback_states_from_checkpoint": {},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_cannot_work_are_refused_where_a_trainer_is_made(
    name: str, tmp_path: Path
) -> None:
    args = transformers.TrainingArguments(
        tmp_path, report_to=[], use_cpu=True, **{name: True, **SETTINGS[name]}
    )
    data = [{"input_ids": words, "labels": words} for words in WORDS]
    with pytest.raises(TrainingError, match=f"^{name} ") as caught:
        transformers.Trainer(
            model(1), args, train_dataset=data, eval_dataset=data, callbacks=[callback()]
        )
    assert caught.value.code == "trainer-setting"
    trainer = transformers.Trainer(model(1), args, train_dataset=data, eval_dataset=data)
    trainer.add_callback(callback())
    with pytest.raises(TrainingError, match=f"^{name} "):
        trainer.train()
    assert trainer.state.global_step == 0


def test_a_process_group_is_refused(tmp_path: Path) -> None:
    """Under ``torchrun`` the trainer wraps the model even of one process, and its buckets do not grow."""
    arguments = transformers.TrainingArguments(tmp_path / "out", use_cpu=True, report_to=[])
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    with pytest.raises(TrainingError, match="keep the sizes of before growth") as caught:
        transformers.Trainer(model(1), arguments, callbacks=[callback()])
    assert caught.value.code == "distributed"


@pytest.mark.parametrize("name", ["fsdp", "deepspeed"])
def test_shards_are_refused(name: str, tmp_path: Path) -> None:
    # Neither can be asked for in one process without the library and its devices.
    args = transformers.TrainingArguments(tmp_path, report_to=[], use_cpu=True)
    setattr(args, name, "full_shard")
    with pytest.raises(TrainingError, match=f"^{name} ") as caught:
        callback().on_init_end(args, None, None)
    assert caught.value.code == "trainer-setting"


def test_the_best_checkpoint_is_kept_and_loads(tmp_path: Path) -> None:
    options = {"metric_for_best_model": "eval_loss", "greater_is_better": True}
    saves = {"save_strategy": "epoch", "eval_strategy": "epoch", "save_total_limit": 1}
    grown = model(1)
    trainer = run(grown, callback(grow_steps=1), tmp_path, **options, **saves)
    best = trainer.state.best_model_checkpoint  # the first epoch, of the largest loss
    assert Path(best).name == "checkpoint-3" and grown.config.n_inner == 36
    loaded = transformers.GPT2LMHeadModel.from_pretrained(best)
    assert loaded.config.n_inner is None, "as it was before the first growth step"


def test_a_trigger_without_evaluation_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the trainer does not evaluate") as caught:
        run(model(1), callback(when=OnPlateau(of="validation_loss", patience=1)), tmp_path)
    assert caught.value.code == "no-validation"


def test_a_trigger_that_compares_with_the_cost_of_training_is_refused() -> None:
    with pytest.raises(TrainingError, match="does not count") as caught:
        callback(when=ByPromise(), method=Splitting())
    assert caught.value.code == "no-promise"


def test_equal_phases_know_how_many_epochs_there_are(tmp_path: Path) -> None:
    growth = callback(when=EqualPhases())
    run(model(1), growth, tmp_path)
    assert growth.grower is not None and growth.grower.history.growths == (1, 2)
    with pytest.raises(TrainingError, match="was not told how many there are") as caught:
        run(model(1), callback(when=EqualPhases()), tmp_path, data=Stream(), max_steps=2)
    assert caught.value.code == "no-epochs"
