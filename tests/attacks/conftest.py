"""A sound directory to damage, and a place where nothing may appear."""

import json
from pathlib import Path

import pytest
import torch
from torch import fx

from fxgrow.spec import describe, save
from tests.spec.conftest import Net
from tools.fuzzing.bases import Base


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    torch.manual_seed(0)
    net = fx.symbolic_trace(Net().eval())
    directory = tmp_path_factory.mktemp("sound") / "net"
    save(net, directory, describe(net, (torch.randn(2, 3, 5, 5),)))
    return Base(
        "net",
        json.loads((directory / "config.json").read_text()),
        (directory / "model.safetensors").read_bytes(),
    )


@pytest.fixture(autouse=True)
def _where_payloads_would_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
