"""Optimizers are torch's own, with the settings of the run."""

from torch import nn
from torch.optim import SGD, AdamW

from fxgrow.training import AdamWSettings, RunSettings


def test_the_default_is_sgd_as_it_was() -> None:
    model = nn.Linear(2, 2)
    made = RunSettings(lr=0.2, momentum=0.8, weight_decay=0.1).new_optimizer(model)
    expected = SGD(model.parameters(), lr=0.2, momentum=0.8, weight_decay=0.1)
    assert type(made) is SGD
    assert made.state_dict() == expected.state_dict()


def test_adamw_has_the_rate_and_the_decay_of_the_run() -> None:
    model = nn.Linear(2, 2)
    chosen = AdamWSettings(betas=(0.8, 0.95), eps=1e-6)
    made = RunSettings(optimizer=chosen, lr=0.002, weight_decay=0.1).new_optimizer(model)
    expected = AdamW(model.parameters(), lr=0.002, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)
    assert type(made) is AdamW
    assert made.state_dict() == expected.state_dict()
