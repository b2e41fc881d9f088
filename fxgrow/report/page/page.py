"""A diff as one HTML file that opens without a network: both graphs side by side, and what changed."""

import base64
import hashlib
import json
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from fxgrow.report.page.union import _CHANGE_KINDS, merge_graphs
from fxgrow.spec import ArchitectureSpec, align, diff

LIBRARIES = ("cytoscape.min.js", "dagre.min.js")
SCRIPTS = ("layout.js", "view.js", "panel.js", "main.js")
# Cytoscape puts this style into the page itself unless it is there; the policy below would refuse it.
_CYTOSCAPE_STYLE = ".__________cytoscape_container { position: relative; }"


def diff_page(a: ArchitectureSpec, b: ArchitectureSpec, names: tuple[str, str] = ("A", "B")) -> str:
    """A self-contained HTML page that shows what changed from ``a`` to ``b``; ``names`` head the two graphs.

    Whatever the specifications hold becomes text in it: names reach the page as JSON, and its policy lets nothing run
    or load but the scripts and styles that are in it, by their hashes.
    """
    libraries = [
        (files(__package__) / "assets" / name).read_text(encoding="utf-8") for name in LIBRARIES
    ]
    scripts = [*libraries, "".join(_part(name) for name in SCRIPTS)]
    styles = [_part("page.css"), _CYTOSCAPE_STYLE]
    return "".join(
        (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts, styles)}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>fxgrow diff</title>\n',
            f"<style>{styles[0]}</style>\n",
            f'<style id="__________cytoscape_stylesheet">{styles[1]}</style>\n</head>\n<body>\n',
            _part("page.html"),
            f'<script type="application/json" id="data">{_embedded(page_data(a, b, names))}</script>\n',
            *(f"<script>{script}</script>\n" for script in scripts),
            "</body>\n</html>\n",
        )
    )


def page_data(a: ArchitectureSpec, b: ArchitectureSpec, names: tuple[str, str]) -> dict[str, Any]:
    """Everything that the page shows, as JSON values."""
    difference = diff(a, b)
    both = merge_graphs(a, b, align(a, b), difference)
    return {
        "names": {"before": names[0], "after": names[1]},
        "kinds": _CHANGE_KINDS,
        **asdict(both),
        "widths": {width.name: width.model_dump(mode="json") for width in (*a.widths, *b.widths)},
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
    allowed = (("script-src", scripts), ("style-src", styles))
    return "; ".join(
        (
            "default-src 'none'",
            *(f"{kind} {' '.join(map(_hash, texts))}" for kind, texts in allowed),
        )
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
