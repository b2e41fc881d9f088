"""What MkDocs calls while it builds the site: pages out of the code, and links that leave docs/.

A link to what is not there is a warning, and `make docs` builds with `--strict`, where warnings are errors.
"""

import logging
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tools.docs_site import links, notebook, reference  # noqa: E402  # MkDocs runs this file by its path

log = logging.getLogger("mkdocs.hooks.docs_site")
DECISIONS = "decisions"


def _title(path: Path) -> str:
    """The first heading of a page."""
    return re.search(r"^# (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)[1]


def _decisions() -> dict[str, str]:
    """The title of every decision, by its path in the site."""
    folder = ROOT / "docs" / DECISIONS
    return {f"{DECISIONS}/{path.name}": _title(path) for path in sorted(folder.glob("0*.md"))}


def _decisions_page() -> str:
    rows = [f"- [{title}]({Path(path).name})" for path, title in _decisions().items()]
    return "\n".join(
        ["# Decisions", "", "What was chosen, why, and what else there was.", "", *rows, ""]
    )


def on_config(config: Any) -> Any:
    """Complete the navigation by what is generated."""
    api = [{reference.TITLES[f"fxgrow.{Path(page).stem}"]: page} for page in reference.api_pages()]
    lists = {
        "Reference": [{"In Python": api}],
        "Decisions": [
            f"{DECISIONS}/index.md",
            *({title: path} for path, title in _decisions().items()),
        ],
    }
    for section in config.nav:
        for title, entries in section.items():
            entries += lists.get(title, [])
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages outside docs/, those made out of the code, and the files that pages link to."""
    pages = {
        f"docs/{file.src_uri}": Path(file.abs_src_path) for file in files.documentation_pages()
    }
    pages |= {path: ROOT / path for path in links.PAGES}
    for path in links.PAGES:
        files.append(File.generated(config, links.site_path(path), content=_read(path)))
    made = reference.api_pages() | {
        "reference/commands.md": reference.commands_page(),
        f"{DECISIONS}/index.md": _decisions_page(),
    }
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    _add_sources(files, config, pages)
    return files


def _read(page: str) -> str:
    """The Markdown of a page."""
    path = ROOT / page
    if path.suffix == ".ipynb":
        return notebook.markdown(notebook.read(path))
    return path.read_text(encoding="utf-8")


def _add_sources(files: Files, config: Any, pages: dict[str, Path]) -> None:
    """Add the files that pages link to and that are no pages."""
    for page, path in pages.items():
        for target in links.targets(_read(str(path.relative_to(ROOT))), page):
            where = links.site_path(target)
            if not where.startswith("source/") or files.get_file_from_path(where):
                continue
            if (ROOT / target).is_file():
                files.append(File.generated(config, where, abs_src_path=str(ROOT / target)))
            else:
                log.warning("%s links to %s, which is no file", page, target)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite the links of a page, and its lists as the parser wants them."""
    uri = page.file.src_uri
    in_repository = {where: path for path, where in links.PAGES.items()}
    path = in_repository.get(uri, f"docs/{uri}")
    if uri.startswith("reference/") or uri == f"{DECISIONS}/index.md":
        return markdown
    return links.with_blank_lines(links.rewritten(markdown, path))
