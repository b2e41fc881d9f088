"""A language model that grows under Hugging Face's Trainer; its config follows.

    pip install 'fxgrow[transformers]'
    python examples/hf_trainer.py

A GPT-2 of bytes, with random weights, learns this very file. Its checkpoints load by
``from_pretrained``, since only what a config can describe grows, alike in all layers.
"""

import tempfile
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

import fxgrow
from fxgrow.integrations.transformers import GrowthTrainerCallback
from fxgrow.training import EveryEpochs

LENGTH = 32
text = torch.tensor(list(Path(__file__).read_bytes()))
pieces = text[: len(text) // LENGTH * LENGTH].view(-1, LENGTH)
data = [{"input_ids": piece, "labels": piece} for piece in pieces]

if __name__ == "__main__":
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=256, n_embd=32, n_layer=2, n_head=2, n_inner=16, n_positions=LENGTH,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    growth = GrowthTrainerCallback(
        when=EveryEpochs(epochs=4), grow_steps=2, state="own-age", budget=fxgrow.Budget(neurons=0.5)
    )
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder, num_train_epochs=12, per_device_train_batch_size=8, learning_rate=3e-3,
            logging_strategy="epoch", save_strategy="no", report_to=[], use_cpu=True,
            disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(model, args, train_dataset=data, callbacks=[growth])
        result = trainer.train()
        model.save_pretrained(folder)
        loaded = GPT2LMHeadModel.from_pretrained(folder)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f}")
    print(f"n_inner 16 -> {loaded.config.n_inner}, loaded by from_pretrained")
