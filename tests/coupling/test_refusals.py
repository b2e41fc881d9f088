"""The codes of refusals in the code and in ``docs/refusals.md`` are the same, and every sentence is one sentence."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.coupling.test_rules import CASES

ROOT = Path(__file__).parents[2]
MAKERS = {"pin", "pin_fields", "pin_when_read", "Pin", "Refusal", "NoRuleError"}
CODE = re.compile(r"[a-z]+(-[a-z]+)*")


def codes_in(tree: ast.AST) -> Iterator[str]:
    """Literals that look like codes among the arguments of what makes refusals, and defaults of ``code``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = (
                node.func.attr
                if isinstance(node.func, ast.Attribute)
                else getattr(node.func, "id", "")
            )
            literals = (
                [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
                if name in MAKERS
                else []
            )
            yield from (one for one in literals if isinstance(one, str) and CODE.fullmatch(one))
        if isinstance(node, ast.FunctionDef):
            defaults = dict(
                zip([a.arg for a in node.args.args][::-1], node.args.defaults[::-1], strict=False)
            )
            if isinstance(default := defaults.get("code"), ast.Constant):
                yield str(default.value)


def page() -> dict[str, str]:
    rows = re.findall(
        r"^\| `([a-z-]+)` \| (.+) \|$", (ROOT / "docs/refusals.md").read_text(), re.MULTILINE
    )
    return dict(rows)


def test_the_page_lists_the_codes_in_the_code() -> None:
    used = {
        code
        for file in (ROOT / "fxgrow").rglob("*.py")
        for code in codes_in(ast.parse(file.read_text()))
    }
    assert used == page().keys()


def test_the_page_is_sorted_and_has_one_sentence_each() -> None:
    assert list(page()) == sorted(page())
    assert all(text.endswith(".") and ". " not in text for text in page().values())


def test_every_code_of_coupling_is_met_by_some_rule_case() -> None:
    rewriting = {
        "fixed-eps",
        "no-lane",
        "no-rewrite",
        "ignored",
        "unseen",
        "unwritten",
        "frozen",
        "method",
        "not-expressible",
    }
    met = {code for *_, widths in CASES.values() for _, _, code in widths.values() if code}
    assert page().keys() - rewriting - met == set()
