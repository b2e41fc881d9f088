"""The page on threats lists the limits of the code, no more and no fewer."""

import re
from pathlib import Path

from fxgrow.documents import limits

PAGE = Path(__file__).parents[2] / "docs" / "threat-model.md"
ROW = re.compile(r"^\| `([A-Z_]+)` \| (\S+) \|", re.MULTILINE)


def test_the_page_lists_the_limits() -> None:
    in_code = {name: str(value) for name, value in vars(limits).items() if name.isupper()}
    assert dict(ROW.findall(PAGE.read_text())) == in_code
