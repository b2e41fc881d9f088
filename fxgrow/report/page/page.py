"""A diff as one HTML file that opens without a network.

It shows both graphs side by side, and what changed.
"""

import base64
import hashlib
import json
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from fxgrow.argument_checks import checked
from fxgrow.report.page.union import CHANGE_KINDS, merge_graphs
from fxgrow.spec import ArchitectureSpec, align, diff

LIBRARIES = ("cytoscape.min.js", "dagre.min.js")
SCRIPTS = ("layout.js", "view.js", "panel.js", "main.js")
# Cytoscape puts this style into the page itself unless it is there; the policy below would refuse
# it then.
_CYTOSCAPE_STYLE = ".__________cytoscape_container { position: relative; }"


@checked
def diff_page(a: ArchitectureSpec, b: ArchitectureSpec, names: tuple[str, str] = ("A", "B")) -> str:
    """Write a self-contained HTML page that shows what changed.

    Whatever the specifications hold becomes text in it: names reach the page as JSON, and its
    content security policy lets nothing run or load but the scripts and styles that are in it, by
    their hashes.

    Args:
        a: the architecture before.
        b: the architecture after.
        names: what to call the two.

    Returns:
        The text of the HTML file.
    """
    libraries = []
    for name in LIBRARIES:
        libraries.append((files(__package__) / "assets" / name).read_text(encoding="utf-8"))
    # Our own scripts share variables, so they are one script.
    own_script = "".join(map(_part, SCRIPTS))
    scripts = [*libraries, own_script]
    styles = [_part("page.css"), _CYTOSCAPE_STYLE]
    data = _embedded(page_data(a, b, names))
    parts = [
        *_head(scripts, styles),
        _part("page.html"),
        f'<script type="application/json" id="data">{data}</script>\n',
    ]
    for script in scripts:
        parts.append(f"<script>{script}</script>\n")
    parts.append("</body>\n</html>\n")
    return "".join(parts)


def _head(scripts: list[str], styles: list[str]) -> list[str]:
    """The beginning of the page, up to where its body starts."""
    policy = _policy(scripts, styles)
    return [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
        "<title>fxgrow diff</title>\n",
        f"<style>{styles[0]}</style>\n",
        f'<style id="__________cytoscape_stylesheet">{styles[1]}</style>\n</head>\n<body>\n',
    ]


def page_data(a: ArchitectureSpec, b: ArchitectureSpec, names: tuple[str, str]) -> dict[str, Any]:
    """Everything that the page shows.

    Args:
        a: the architecture before.
        b: the architecture after.
        names: what to call the two.

    Returns:
        JSON values: the merged graph, the widths by name, and the diff.
    """
    difference = diff(a, b)
    merged = merge_graphs(a, b, align(a, b), difference)
    widths = {}
    # A width of both is shown as it is after.
    for width in (*a.widths, *b.widths):
        widths[width.name] = width.model_dump(mode="json")
    return {
        "names": {"before": names[0], "after": names[1]},
        "kinds": CHANGE_KINDS,
        **asdict(merged),
        "widths": widths,
        "diff": difference.model_dump(mode="json"),
    }


def _part(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _embedded(data: dict[str, Any]) -> str:
    """JSON in which nothing can end or open an element or a comment."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(scripts: list[str], styles: list[str]) -> str:
    """Nothing may be loaded from anywhere; only these scripts and styles may run and apply."""
    script_hashes = " ".join(map(_hash, scripts))
    style_hashes = " ".join(map(_hash, styles))
    return f"default-src 'none'; script-src {script_hashes}; style-src {style_hashes}"


def _hash(text: str) -> str:
    """The hash of a script or style as a content security policy names it."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
