"""A number in the code refuses the widths that it touches, no others, and the reason says where it is."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fxgrow.coupling import couple, trial
from fxgrow.coupling.trace import run_once

IMAGE = torch.zeros(2, 3, 8, 8)


class Net(nn.Module):
    """Two convolutions, a flattening, and a classifier of two layers."""

    def __init__(self, flatten: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.c, self.d, self.flatten = nn.Linear(128, 10), nn.Linear(10, 2), flatten

    def forward(self, x: Tensor) -> Tensor:
        h = F.max_pool2d(torch.relu(self.b(torch.relu(self.a(x)))), 2)
        out: Tensor = self.d(torch.relu(self.c(self.flatten(h))))
        return out


def checked(h: Tensor) -> Tensor:
    if h.shape[1] != 8:
        raise ValueError("eight channels are needed")
    return h.flatten(1)


FLATTENINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "view": lambda h: h.view(-1, 8 * 4 * 4),
    "reshape": lambda h: h.reshape(h.shape[0], 128),
    "check": checked,
}


@pytest.mark.parametrize("name", FLATTENINGS)
def test_only_the_width_that_is_touched_is_refused(name: str) -> None:
    widths = couple(Net(FLATTENINGS[name]), (IMAGE,)).by_name
    assert [other for other in "abcd" if widths[other].growable] == ["a", "c"]
    refusal = widths["b"].refusal
    assert refusal is not None
    assert refusal.code == "fixed-code"


def test_the_reason_names_the_user_s_line() -> None:
    refusal = couple(Net(checked), (IMAGE,)).by_name["b"].refusal
    assert refusal is not None
    line = inspect.getsourcelines(checked)[1] + 2
    assert refusal.reason.endswith(f"eight channels are needed (test_blame.py:{line})")


def test_layers_of_torch_alone_have_no_line() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(256, 4), Five(), nn.Linear(4, 2)
    )
    for width in couple(module, (IMAGE,)).widths:
        for node in width.refusal.nodes if width.refusal else ():
            assert "_ops.py" not in node
            assert "nn/modules" not in node


class Five(nn.Module):
    """Whatever it gets it sees as two by two."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(-1, 2, 2).flatten(1)


class Twice(nn.Module):
    """One helper cuts two widths: with a number, and with a size."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 5, 1)
        self.c, self.d = nn.Linear(256, 2), nn.Linear(320, 2)

    @staticmethod
    def flat(h: Tensor, size: int) -> Tensor:
        return h.view(len(h), size)

    def forward(self, x: Tensor) -> Any:
        a, b = self.a(x), self.b(x)
        return self.c(self.flat(a, 256)) + self.d(self.flat(b, b.shape[1] * 64))


def test_a_line_is_to_blame_only_where_it_fails() -> None:
    widths = couple(Twice(), (IMAGE,)).by_name
    assert (widths["a"].growable, widths["b"].growable) == (False, True)


class Equal(nn.Module):
    """Two widths that nothing unites must be equal: the second half is what is left."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 7, 1), nn.Conv2d(3, 2, 1)
        self.c, self.d = nn.Conv2d(3, 2, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Any:
        h = self.a(x)
        middle = h.shape[1] // 2
        return self.c(h[:, :middle]) + self.d(h[:, middle:])


def test_sizes_that_agree_by_chance_in_one_growth_are_noticed() -> None:
    widths = couple(Equal(), (IMAGE,)).widths
    assert [width.growable for width in widths if width.name.startswith("a")] == [False, False]


class Numbered(nn.Module):
    """A residual block that sees its hidden width with a number."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.last(torch.tanh(self.first(x)).view(-1, 8))
        return out


class Scaled(Numbered):
    """Sees it with a size, which is not what fails: a line of its own does."""

    def forward(self, x: Tensor) -> Tensor:
        grid = self.first(x).unflatten(1, (2, -1))
        scaled = grid * torch.ones(4)
        out: Tensor = x + self.last(scaled.flatten(1))
        return out


class Checked(Numbered):
    """Raises an error of its own, so that no operator has met the width."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.last(checked(torch.tanh(self.first(x))[:, :, None]))
        return out


def runs_of(kind: type[Numbered], number: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many trial runs a stack of blocks takes, none of whose hidden widths can grow."""
    runs = []

    def counted(*args: Any, **kwargs: Any) -> Exception | None:
        runs.append(args)
        return run_once(*args, **kwargs)

    blocks = [kind() for _ in range(number)]
    model = nn.Sequential(nn.Linear(3, 6), *blocks, nn.Linear(6, 2))
    with monkeypatch.context() as patch:
        patch.setattr(trial, "run_once", counted)
        coupling = couple(model, torch.zeros(2, 3))
    assert [width.name for width in coupling.widths if width.growable] == ["0"]
    return len(runs)


@pytest.mark.parametrize("kind", [Numbered, Scaled, Checked])
def test_alike_blocks_do_not_take_a_run_each(
    kind: type[Numbered], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runs_of(kind, 12, monkeypatch) == runs_of(kind, 4, monkeypatch)


class Switched(Numbered):
    """Some of these see their hidden width with a number."""

    def __init__(self, is_fixed: bool) -> None:
        super().__init__()
        self.is_fixed = is_fixed

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x))
        out: Tensor = x + self.last(hidden.view(-1, 8 if self.is_fixed else hidden.shape[1]))
        return out


@pytest.mark.parametrize("fixed", [range(3), range(3, 8), range(8)], ids=str)
def test_alike_blocks_that_differ_in_what_fails_are_told_apart(fixed: range) -> None:
    blocks = [Switched(number in fixed) for number in range(8)]
    model = nn.Sequential(*blocks, nn.Linear(6, 2))
    widths = couple(model, torch.zeros(2, 6)).by_name
    grows = [number for number in range(8) if widths[f"{number}.first"].growable]
    assert grows == [number for number in range(8) if number not in fixed]
