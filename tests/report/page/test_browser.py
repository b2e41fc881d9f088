"""The page in a real Chromium: it opens offline, shows both graphs, finds things, explains a width, trusts no name."""

from typing import Any

from fxgrow.spec import ArchitectureSpec, diff
from fxgrow.spec.fingerprint import fingerprint
from fxgrow.spec.models import RefusalSpec
from tests.report.page.conftest import Open, Specs

SHOWN = "side => fxgrow.view.sides[side].nodes('.vertex').not('.ghost').length"
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def text(page: Any, selector: str) -> str:
    found: str = page.inner_text(selector)
    return found


def test_both_graphs_are_drawn_in_one_place(open_page: Open, grown: Specs) -> None:
    a, b = grown
    page = open_page(a, b)
    assert [page.evaluate(SHOWN, side) for side in ("before", "after")] == [
        len(a.nodes),
        len(b.nodes),
    ]
    assert page.evaluate("fxgrow.view.sides.after.edges().length") >= len(b.nodes) - 1
    places = (
        "side => fxgrow.view.sides[side].nodes('.vertex').map(node => [node.id(), node.position()])"
    )
    assert page.evaluate(places, "before") == page.evaluate(places, "after")
    assert page.evaluate("fxgrow.view.sides.after.nodes('.vertex.layer').length") == len(
        diff(a, b).layers[0].nodes
    )
    page.evaluate("void fxgrow.view.sides.before.viewport({ zoom: 0.5, pan: { x: 7, y: 9 } })")
    assert page.evaluate("[fxgrow.view.sides.after.zoom(), fxgrow.view.sides.after.pan()]") == [
        0.5,
        {"x": 7, "y": 9},
    ]
    assert (text(page, "#name-before"), text(page, "#name-after")) == ("old", "new")


def test_the_search_finds_and_focuses(open_page: Open, grown: Specs) -> None:
    page = open_page(*grown)
    page.keyboard.press("/")
    page.keyboard.type("b2")
    page.wait_for_selector("#found li")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    assert text(page, "#panel h2") == "b2"
    assert page.evaluate("fxgrow.view.sides.before.nodes('.chosen').map(node => node.id())") == [
        "b:b2"
    ]
    x, y = page.evaluate(
        "(({x, y}) => [x, y])(fxgrow.view.sides.after.getElementById('b:b2').renderedPosition())"
    )
    width, height = page.evaluate(
        "[fxgrow.view.sides.after.width(), fxgrow.view.sides.after.height()]"
    )
    assert abs(x - width / 2) < 1 and abs(y - height / 2) < 1


def test_a_width_shows_its_sites_and_scores(open_page: Open, grown: Specs) -> None:
    a, b = grown
    page = open_page(a, b)
    change = max(diff(a, b).widths, key=lambda width: len(width.scores))
    page.click(f"#panel button.row:has(.title:text-is('{change.name}'))")
    width = next(width for width in b.widths if width.name == change.name)
    rows = page.eval_on_selector_all(
        "#panel tbody tr", "rows => rows.map(row => [...row.cells].map(cell => cell.innerText))"
    )
    assert [row[:3] for row in rows] == [
        [site.role, site.parameter, str(site.axis)] for site in width.sites
    ]
    assert rows[0][3] == f"{change.before} → {change.after}"
    assert page.locator("#panel .score").count() == len(change.scores)
    assert page.locator(".neurons:not(.key) i.new").count() == change.new
    assert page.locator(".neurons:not(.key) i.split").count() == len(set(change.neurons))
    page.keyboard.press("Escape")
    assert page.locator("#panel .head").count() == 0


def test_modules_close_and_open(open_page: Open, grown: Specs) -> None:
    a, b = grown
    page = open_page(a, b)
    page.click("#collapse")
    closed = page.evaluate(SHOWN, "after")
    assert closed < len(b.nodes)
    page.click("#expand")
    assert page.evaluate(SHOWN, "after") == len(b.nodes)


def hostile(spec: ArchitectureSpec) -> ArchitectureSpec:
    """The same graph with markup in every name that a file could bring, which loading would refuse."""
    nodes = tuple(
        node.model_copy(update={"target": EVIL + node.target} if node.op == "call_module" else {})
        for node in spec.nodes
    )
    modules = tuple(item.model_copy(update={"name": EVIL + item.name}) for item in spec.modules)
    refusal = RefusalSpec(code=EVIL, reason=EVIL, nodes=(EVIL,))
    widths = tuple(
        w.model_copy(update={"name": EVIL + w.name, "refusal": refusal}) for w in spec.widths
    )
    found = spec.model_copy(
        update={"nodes": nodes, "modules": modules, "widths": widths, "history": ()}
    )
    return found.model_copy(update={"fingerprint": fingerprint(found)})


def test_hostile_names_stay_text(open_page: Open, grown: Specs) -> None:
    a, b = (hostile(spec) for spec in grown)
    page = open_page(a, b)
    assert page.evaluate(SHOWN, "after") == len(b.nodes)
    for row in range(page.locator("#panel button.row").count()):
        page.locator("#panel button.row").nth(row).click()
        assert page.locator("#panel img, #panel script").count() == 0
        page.keyboard.press("Escape")
    page.fill("#search", "onerror")
    page.wait_for_selector("#found li")
    assert EVIL in text(page, "#found")
    assert page.locator("script").count() == 4 and page.locator("img").count() == 0
