"""Modes that hold for a while; two threads grow one after the other and disturb nobody."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fxgrow
from fxgrow import Firefly
from fxgrow.modes import exclusive_autograd, without_autocast

INPUTS = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))


def test_autograd_is_at_hand_inside_and_as_before_outside() -> None:
    with torch.inference_mode():
        with exclusive_autograd():
            assert torch.is_grad_enabled() and not torch.ones(1).is_inference()
        assert torch.is_inference_mode_enabled() and not torch.is_grad_enabled()


def started(work: Callable[[], None], failures: list[BaseException]) -> threading.Thread:
    """A thread that is running; what it raises is kept for the main thread."""

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - shown by the main thread
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_threads_that_grow_and_a_thread_that_trains() -> None:
    failures: list[BaseException] = []
    results: list[Any] = []
    stop = threading.Event()

    def grow() -> None:
        method = Firefly(new=1, steps=1, refine_steps=1)
        growth = fxgrow.grow(network(), [(INPUTS, LABELS)], F.cross_entropy, method=method)
        results.append([tuple(p.shape) for p in growth.module.parameters()])

    def train() -> None:
        model = network()
        while not stop.is_set():
            F.cross_entropy(model(INPUTS), LABELS).backward()

    trainer = started(train, failures)
    for thread in [started(grow, failures), started(grow, failures)]:
        thread.join()
    stop.set()
    trainer.join()
    assert failures == []
    assert len(results) == 2 and results[0] == results[1]


def test_a_second_thread_waits() -> None:
    failures: list[BaseException] = []
    done = threading.Event()

    def capture() -> None:
        fxgrow.capture(network(), INPUTS)
        done.set()

    with exclusive_autograd():
        thread = started(capture, failures)
        assert not done.wait(0.3)
    thread.join()
    assert done.is_set() and failures == []


@pytest.mark.parametrize("is_own", [False, True])
def test_the_forward_of_mixed_precision_is_taken_away_for_a_while(is_own: bool) -> None:
    """As Accelerate puts it there, over the class's forward or over one of the model's own."""
    model: Any = network().eval()
    if is_own:
        plain = type(model).forward
        model.forward = lambda inputs: plain(model, inputs) + 1.0
    expected = model(INPUTS)
    original = model._original_forward = model.forward
    model.forward = lambda inputs: original(inputs.bfloat16().float())
    wrapped = model.forward
    assert not torch.equal(model(INPUTS), expected)
    with without_autocast(model):
        assert torch.equal(model(INPUTS), expected)
        assert "_original_forward" not in vars(model) and ("forward" in vars(model)) == is_own
    assert model.forward is wrapped and model._original_forward is original


def test_a_model_without_mixed_precision_is_left_alone() -> None:
    model = network()
    with without_autocast(model):
        assert "forward" not in vars(model)
    assert "forward" not in vars(model)
