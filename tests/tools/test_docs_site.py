"""Links, pages of the reference and navigation of the site; `make docs` builds it, with links and anchors checked."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import fxgrow
from tools.docs_site import links, reference

DOCS = links.ROOT / "docs"
PAGES = sorted([*links.PAGES, *(str(path.relative_to(links.ROOT)) for path in DOCS.rglob("*.md"))])


@pytest.mark.parametrize("page", PAGES)
def test_a_page_links_to_what_is_there(page: str) -> None:
    text = (links.ROOT / page).read_text(encoding="utf-8")
    assert not [path for path in links.targets(text, page) if not (links.ROOT / path).exists()]


@pytest.mark.parametrize("page", PAGES)
def test_a_folder_that_is_linked_to_has_a_page(page: str) -> None:
    text = (links.ROOT / page).read_text(encoding="utf-8")
    folders = {path for path in links.targets(text, page) if (links.ROOT / path).is_dir()}
    assert folders <= links.FOLDERS.keys()


@pytest.mark.parametrize(
    ("link", "page", "expected"),
    [
        ("(gpu.md)", "docs/cells.md", "(gpu.md)"),
        ("(../cells.md#files)", "docs/results/README.md", "(../cells.md#files)"),
        ("(docs/gpu.md)", "README.md", "(gpu.md)"),
        ("(docs/gpu.md#a-b)", "CONTRIBUTING.md", "(../gpu.md#a-b)"),
        ("(docs/decisions/)", "README.md", "(decisions/index.md)"),
        ("(../README.md)", "docs/cells.md", "(index.md)"),
        ("(../../specs/coverage.md)", "docs/results/README.md", "(../project/coverage.md)"),
        ("(../../examples/gpt.py)", "docs/decisions/0001.md", "(../source/examples/gpt.py)"),
        ("(#here)", "docs/cells.md", "(#here)"),
        ("(https://example.org/a.md)", "README.md", "(https://example.org/a.md)"),
    ],
)
def test_links_are_rewritten(link: str, page: str, expected: str) -> None:
    assert links.rewritten(f"See [this]{link}, [that]{link}.", page) == (
        f"See [this]{expected}, [that]{expected}.\n"
    )


def test_links_in_code_stay() -> None:
    text = "```python\nx[0](docs/gpu.md)\n```\n"
    assert links.rewritten(text, "README.md") == text
    assert links.targets(text, "README.md") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Text:\n- one\n- two\n", "Text:\n\n- one\n- two\n"),
        ("Text:\n| a |\n|---|\n", "Text:\n\n| a |\n|---|\n"),
        ("1. one\n   - in it\n2. two\n", "1. one\n    - in it\n2. two\n"),
        ("- one\n  goes on\n- two\n", "- one\n  goes on\n- two\n"),
        ("- one\n\nText\n- two\n", "- one\n\nText\n\n- two\n"),
        ("```\ntext\n- no list\n```\n", "```\ntext\n- no list\n```\n"),
    ],
)
def test_lists_and_tables_stand_apart(text: str, expected: str) -> None:
    assert links.with_blank_lines(text) == expected


def test_every_public_name_is_in_the_reference() -> None:
    text = "\n".join(reference.api_pages().values())
    for name in set(fxgrow.__all__) - {"__version__"}:
        value = getattr(fxgrow, name)
        assert text.count(f"::: {value.__module__}.{value.__qualname__}\n") == 1, name


def test_every_command_is_in_the_reference() -> None:
    page = reference.commands_page()
    for name in ("inspect", "grow", "methods", "cells search", "continual show"):
        assert f"\n## fxgrow {name}\n" in page
    assert page.count("\n## ") == 21
    grow = page.partition("## fxgrow grow\n")[2].partition("\n## ")[0]
    assert "| `--epochs` | `6` | epochs of training in all |" in grow
    assert "| `--seed` | `0` |" in grow and "| `--json` |  | print JSON" in grow
    assert "| `MODEL` | required |" in grow


class _Loader(yaml.SafeLoader):
    """Reads mkdocs.yml without importing the function that it names."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/name:", lambda loader, suffix, node: suffix)


def _entries(nav: Any) -> set[str]:
    if isinstance(nav, str):
        return {nav}
    values = nav.values() if isinstance(nav, dict) else nav
    found: set[str] = set()
    for value in values:
        found |= _entries(value)
    return found


def test_every_page_is_in_the_navigation() -> None:
    config = yaml.load((links.ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader=_Loader)
    expected = {links.site_path(page) for page in PAGES if not page.startswith("docs/decisions/")}
    assert _entries(config["nav"]) == expected | {"reference/commands.md"}


def test_hooks_and_extensions_are_there() -> None:
    config = (links.ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for path in Path(links.ROOT, "tools", "docs_site").glob("[hd]*s.py"):
        assert f"tools/docs_site/{path.name}" in config
