"""Diff pages as files, opened in the Chromium of all tests of pages."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fxgrow
from fxgrow.report import diff_page
from fxgrow.spec import ArchitectureSpec, describe
from tests.networks import images, network

Open = Callable[..., Any]
Specs = tuple[ArchitectureSpec, ArchitectureSpec]


def _wait_until_drawn(page: Any) -> None:
    """Ask again and again: ``wait_for_function`` polls by ``eval``, which the page's policy refuses."""
    for _ in range(200):
        if page.evaluate("Boolean(window.fxgrow)"):
            return
        page.wait_for_timeout(50)
    raise TimeoutError("the page was not drawn within ten seconds")


@pytest.fixture(scope="session")
def grown() -> Specs:
    """A residual network before and after a growth step with one inserted layer."""
    model, x = network("residual").train(), images(8)
    small = fxgrow.capture(model, x)
    before = describe(
        small.graph_module, small.example_inputs, widths=fxgrow.couple(small, x).widths
    )
    step = fxgrow.grow(
        model,
        [(x, torch.arange(8) % 2)],
        nn.functional.cross_entropy,
        example_inputs=x,
        method=fxgrow.Firefly(steps=2, new=2, refine_steps=0, layers=2),
        budget=fxgrow.Budget(neurons=0.5, layers=1),
    )
    return before, step.spec


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens the diff of two specs from a file, without a network; afterwards no request or message is allowed."""
    context = browser.new_context(offline=True, viewport={"width": 1400, "height": 900})
    messages: list[str] = []

    def dismiss(dialog: Any) -> None:
        messages.append(dialog.message)
        dialog.dismiss()

    def opened(a: ArchitectureSpec, b: ArchitectureSpec) -> Any:
        file = tmp_path / "diff.html"
        file.write_text(diff_page(a, b, ("old", "new")), encoding="utf-8")
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("dialog", dismiss)
        page.on("request", lambda request: messages.extend({request.url} - {file.as_uri()}))
        page.goto(file.as_uri())
        _wait_until_drawn(page)
        return page

    yield opened
    context.close()
    assert messages == []
