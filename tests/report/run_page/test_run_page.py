"""The page of a run in a real Chromium, as wide as a phone and as a screen, without a network."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fxgrow.report import REPORT_TITLE, RunStory, report_page
from fxgrow.report.run import run_rows
from fxgrow.report.run_page.charts import MAX_WIDTHS, draw_charts, width_sizes
from fxgrow.spec import WidthChange
from tests.report.stories import (
    END,
    EVIL,
    OWN_LOOP,
    SKIPPED,
    START,
    STOPPED,
    STORY,
    averaged,
    epochs,
    growth,
    hostile,
)

pytest.importorskip("matplotlib")

Open = Callable[..., Any]
PHONE, SCREEN = (360, 740), (1280, 900)
BOXES = """selector => [...document.querySelectorAll(selector)].map(
    element => (({x, y, width, height}) => [x, y, width, height])(element.getBoundingClientRect()))"""


@pytest.fixture
def open_report(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens the page of a run from a file; afterwards no request, error or dialog is allowed."""
    messages: list[str] = []
    contexts = []

    def dismiss(dialog: Any) -> None:
        messages.append(dialog.message)
        dialog.dismiss()

    def opened(story: RunStory, size: tuple[int, int], diff: str = "") -> Any:
        file = tmp_path / "report.html"
        file.write_text(report_page(story, "mine", diff), encoding="utf-8")
        viewport = {"width": size[0], "height": size[1]}
        context = browser.new_context(offline=True, viewport=viewport)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("dialog", dismiss)
        page.on("request", lambda request: messages.extend({request.url} - {file.as_uri()}))
        page.goto(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert messages == []


def require_no_overflow(page: Any, width: int) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for x, _, wide, _ in page.evaluate(BOXES, "figure, figure svg, p, h1, h2, .wide, details"):
        assert x >= 0 and x + wide <= width + 0.5


@pytest.mark.parametrize("size", [PHONE, SCREEN], ids=["phone", "screen"])
@pytest.mark.parametrize(
    "story",
    [STORY, OWN_LOOP, hostile(), averaged(True, STOPPED)],
    ids=["run", "own loop", "hostile", "averaged"],
)
def test_nothing_is_wider_than_the_page(
    open_report: Open, story: RunStory, size: tuple[int, int]
) -> None:
    page = open_report(story, size)
    require_no_overflow(page, size[0])
    assert page.locator("script, img").count() == 0


@pytest.mark.parametrize("size", [PHONE, SCREEN], ids=["phone", "screen"])
def test_every_chart_is_there_with_its_marks(open_report: Open, size: tuple[int, int]) -> None:
    page = open_report(STORY, size)
    titles = page.locator("figcaption").all_inner_texts()
    assert titles == [
        "Loss",
        "Accuracy",
        "Widths over time",
        "Cost of the network",
        "Where the time went",
    ]
    charts = page.evaluate(BOXES, "figure svg")
    assert all(wide > 200 and high > 100 for _, _, wide, high in charts)
    # Growth after epoch 2 of 4: a mark in every chart over time, inside of it and as high as it is.
    for name, chart in zip(("loss", "accuracy", "widths", "cost"), charts, strict=False):
        ((x, _, _, high),) = page.evaluate(BOXES, f"#{name}-growth-1")
        assert chart[0] < x < chart[0] + chart[2] and high > 0.4 * chart[3]
    columns = len({round(x) for x, *_ in charts})
    assert columns == (1 if size == PHONE else 3)
    # Text is text, and can be read: ten pixels at least.
    heights = page.eval_on_selector_all(
        "figure svg text",
        "texts => texts.map(text => parseFloat(getComputedStyle(text).fontSize) * Math.hypot(text.getScreenCTM().a, text.getScreenCTM().b))",
    )
    assert min(heights) >= 8.5
    assert "training" in (page.text_content("figure:first-child svg") or "")


def test_the_tables_say_what_the_log_says(open_report: Open) -> None:
    page = open_report(STORY, SCREEN, diff="mine.diff.html")
    read = "table => [...table.rows].map(row => [...row.cells].map(cell => cell.innerText))"
    run, grown = page.eval_on_selector_all("table", f"tables => tables.map({read})")
    assert [tuple(row) for row in run[1:]] == list(run_rows(STORY))
    assert grown == [
        ["width", "before", "after", "split", "new", "score", "best", "parameters"],
        ["conv1", "4", "7", "1", "2", "0.875", "0.5", "400"],
        ["grown_layers.relu (inserted after relu)", "0", "3", "0", "3", "0.5", "", ""],
    ]
    words = page.inner_text("body")
    assert "500 of 600 parameters spent, 50.00 % of what there was" in words
    assert "100 parameters are left" in words and "seed 3" in words
    assert "7 training steps in the same time would take it to 1" in words
    page.click("summary")
    assert page.inner_text("dl").split() == ["output", "(1)", "fc", "norm", "(2)", "bn,", "b2"]
    assert page.get_attribute("a", "href") == "mine.diff.html"


def test_what_was_left_out_says_why(open_report: Open) -> None:
    page = open_report(RunStory.of([START, *epochs(4, (0, 0, 0, 0)), SKIPPED]), SCREEN)
    assert "Growth step 2, left out" in page.inner_text("body")
    assert "After epoch 3: gained nothing" in page.inner_text("body")
    assert page.locator('[id*="-growth-"]').count() == 0


def test_hostile_words_stay_words(open_report: Open) -> None:
    page = open_report(hostile(), SCREEN)
    assert EVIL in page.inner_text("body")
    assert page.locator("script, img").count() == 0


def test_the_same_run_gives_the_same_page_which_is_small() -> None:
    page = report_page(STORY, "mine")
    assert page == report_page(STORY, "mine")
    assert REPORT_TITLE in page and len(page) < 200_000
    assert "://" not in page.replace("http://www.w3.org/", "")


def test_the_widths_that_grew_most_are_drawn() -> None:
    grown = tuple(
        WidthChange(width=f"w{n}", before=4, after=5 + n, new=1 + n) for n in range(MAX_WIDTHS + 2)
    )
    story = RunStory.of([START, *epochs(4, (0, 0, 1, 1)), growth(widths=grown)])
    assert width_sizes(story)["w1"] == [(0.0, 4), (2.0, 6), (4.0, 6)]
    drawn = draw_charts(story)["Widths over time"]
    assert f">w{MAX_WIDTHS + 1}<" in drawn and ">w2<" in drawn and ">w1<" not in drawn


def test_a_run_that_has_measured_nothing_has_a_page() -> None:
    assert "nothing is trained yet" in report_page(RunStory.of([START]), "mine").lower()


def test_a_published_average_is_shown_and_named() -> None:
    story = averaged(True, STOPPED, END)
    charts = draw_charts(story)
    assert all(">test, averaged weights<" in charts[name] for name in ("Loss", "Accuracy"))
    page = report_page(story, "mine")
    assert "<h2>Run, losses and accuracies of the averaged weights</h2>" in page
    assert "These losses are of the weights themselves." in page
    assert "Gained 12.50 points of test accuracy of the averaged weights (37.50 % before" in page
    assert "stopped early after epoch 4 of 4" in page and ">4 of 4 epochs in" in page


def test_an_average_beside_the_weights_is_a_curve_alone() -> None:
    page = report_page(averaged(False, END), "mine")
    assert ">test, averaged weights<" in page
    assert "of the averaged weights" not in page and "themselves" not in page
    assert ">test, averaged weights<" not in report_page(STORY, "mine")
