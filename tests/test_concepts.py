"""The Python of docs/concepts.md is one program, and runs as it stands."""

import re
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "concepts.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_program_runs() -> None:
    assert BLOCKS
    exec(compile("\n".join(BLOCKS), str(PAGE), "exec"), {"__name__": "concepts"})


def test_its_pictures_are_there() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in re.findall(r"!\[[^]]*\]\((.*?)\)", text):
        assert (PAGE.parent / name).is_file(), name
