"""Where a file of the repository is in the site, and Markdown with its links rewritten to that.

The texts link as they lie in the repository, so that they can be read there. In the site, README is the first page,
what lies in docs/ keeps its place, and any other file that is linked to is found under source/.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "docs/tutorial.ipynb": "tutorial.md",
    "specs/coverage.md": "project/coverage.md",
    "specs/growth.md": "project/growth.md",
}
"""Pages that lie outside docs/ or are no Markdown, and where they are in the site."""

FOLDERS = {
    "docs/decisions": "decisions/index.md",
    "docs/results": "results/README.md",
    "examples": "examples.md",
}
"""Folders that are linked to, and the page that lists them."""

_LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
_FENCE = re.compile(r"^\s*(```|~~~)")
_ITEM = re.compile(r"^( *)(?:[-*]|\d+\.) ")


def site_path(path: str) -> str:
    """Where a file or folder of the repository is in the site."""
    if path in PAGES | FOLDERS:
        return (PAGES | FOLDERS)[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else f"source/{path}"


def outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """Markdown with every line changed that is not in a block of code."""
    lines, is_code = [], False
    for line in markdown.splitlines():
        is_fence = bool(_FENCE.match(line))
        lines.append(line if is_code or is_fence else change(line))
        is_code ^= is_fence
    return "\n".join(lines) + "\n"


def targets(markdown: str, page: str) -> list[str]:
    """The files and folders that a page links to, by their paths in the repository."""
    found: list[str] = []

    def read(line: str) -> str:
        found.extend(_resolved(match[1], page) for match in _LINK.finditer(line))
        return line

    outside_code(markdown, read)
    return found


def rewritten(markdown: str, page: str) -> str:
    """The Markdown of a page with links as they are in the site.

    Args:
        markdown: its text.
        page: its path in the repository.
    """
    here = PurePosixPath(site_path(page)).parent

    def change(match: re.Match[str]) -> str:
        there = site_path(_resolved(match[1], page))
        return os.path.relpath(there, here) + (match[2] or "")

    return outside_code(markdown, lambda line: _LINK.sub(change, line))


def _resolved(target: str, page: str) -> str:
    return os.path.normpath(PurePosixPath(page).parent / target)


def with_blank_lines(markdown: str) -> str:
    """Markdown as the site's parser wants it, which is stricter than that of the forges.

    A list or table that follows a line of text needs a blank line before it, and lists inside lists four spaces.
    """
    lines: list[str] = []
    is_code, in_list = False, False
    for line in markdown.splitlines():
        if _FENCE.match(line):
            is_code = not is_code
        elif not is_code:
            item, before = _ITEM.match(line), lines[-1] if lines else ""
            begins_table = line.startswith("|") and not before.startswith("|")
            begins_list = item is not None and not in_list
            if before.strip() and (begins_table or begins_list):
                lines.append("")
            if in_list and item is not None and 0 < len(item[1]) < 4:
                line = "    " + line.lstrip()
            # A list ends at a line that is not indented, after a blank one or as a heading.
            ends = line.startswith("#") or (not before.strip() and not line.startswith(" "))
            in_list = item is not None or (in_list and not (line.strip() and ends))
        lines.append(line)
    return "\n".join(lines) + "\n"
