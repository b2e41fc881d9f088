"""The Python of docs/concepts.md, docs/optimizers.md and others is one program each, and runs as it stands."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "concepts.md"


@pytest.mark.parametrize(
    "name", ["concepts", "optimizers", "when-to-grow", "resuming", "training", "reports"]
)
def test_the_program_runs(name: str) -> None:
    page = DOCS / f"{name}.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    exec(compile("\n".join(blocks), str(page), "exec"), {"__name__": name})


def test_its_pictures_are_there() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in re.findall(r"!\[[^]]*\]\((.*?)\)", text):
        assert (PAGE.parent / name).is_file(), name
