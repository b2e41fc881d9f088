"""The page is one file with everything in it, and what is in it is what was fetched."""

import base64
import hashlib
import json
import re
from importlib.resources import files

import fxgrow.report.page as page_package
from fxgrow.report.page import LIBRARIES, diff_page, page_data
from fxgrow.report.page.union import CHANGE_KINDS
from tests.report.page.conftest import Specs

ASSETS = files(page_package) / "assets"


def test_the_libraries_are_those_of_the_manifest() -> None:
    manifest = json.loads((ASSETS / "manifest.json").read_text())
    assert tuple(entry["file"] for entry in manifest) == LIBRARIES
    for entry in manifest:
        assert hashlib.sha256((ASSETS / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
        assert "Permission is hereby granted" in (ASSETS / entry["license_file"]).read_text(
            encoding="utf-8"
        )


def test_the_policy_allows_what_is_in_the_page_and_nothing_else(grown: Specs) -> None:
    page = diff_page(*grown)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert (
        rules.keys() == {"default-src", "script-src", "style-src"}
        and rules["default-src"] == "'none'"
    )
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = {
        "'sha256-" + base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() + "'"
        for s in scripts
    }
    assert set(rules["script-src"].split()) == hashes and len(scripts) == 3
    assert not re.search(r"<(script|link|img|iframe)[^>]*\b(src|href)=", page)


def test_the_data_holds_both_graphs(grown: Specs) -> None:
    a, b = grown
    data = page_data(a, b, ("old", "new"))
    assert [v["before"]["name"] for v in data["vertices"] if v["before"]] == [
        node.name for node in a.nodes
    ]
    assert [v["after"]["name"] for v in data["vertices"] if v["after"]] == [
        node.name for node in b.nodes
    ]
    assert {v["kind"] for v in data["vertices"]} <= set(CHANGE_KINDS)
    layer = data["diff"]["layers"][0]
    assert [v["after"]["name"] for v in data["vertices"] if v["kind"] == "layer"] == layer["nodes"]
    assert all(v["group"][-1] == layer["name"] for v in data["vertices"] if v["kind"] == "layer")
    embedded = re.search(r'id="data">(.*?)</script>', diff_page(a, b, ("</script>", "new")))
    assert embedded is not None
    assert json.loads(embedded[1])["names"]["before"] == "</script>"
