"""Growth under Hugging Face's Trainer: the config follows, and what was saved is loaded and goes on."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fxgrow import Budget, ZeroOutgoing
from fxgrow.errors import SpecError
from fxgrow.growth import ALL_WIDTHS
from fxgrow.training import AtEpochs, OnPlateau

transformers: Any = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.filterwarnings("ignore")

from fxgrow.integrations.transformers import (  # noqa: E402
    GrowthTrainerCallback,
    regrow_from_checkpoint,
)

WORDS = torch.randint(0, 31, (12, 6), generator=torch.Generator().manual_seed(0))


def model() -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=31, n_embd=8, n_layer=2, n_head=2, n_positions=8, bos_token_id=0, eos_token_id=0
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
