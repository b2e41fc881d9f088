"""docs/paper.md leads from the paper to code that is there."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`(fxgrow[\w.]*(?::\w+)?)`", PAGE)))


def found(name: str) -> object:
    """What a name of the page stands for: ``package.module:name``, ``package.name`` or a module."""
    path, _, attribute = name.partition(":")
    if attribute:
        return getattr(import_module(path), attribute)
    package, _, last = path.rpartition(".")
    holder = import_module(package)
    return getattr(holder, last) if hasattr(holder, last) else import_module(path)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_the_page_is_there(name: str) -> None:
    assert found(name) is not None


def test_a_name_that_is_not_there_is_noticed() -> None:
    with pytest.raises(AttributeError):
        found("fxgrow.growth.select:nothing")
    assert len(NAMES) > 20


def test_its_settings_and_commands_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"`make ([\w-]+)`", PAGE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for setting, owner in re.findall(r"`(\w+)` of `([\w.:]+)`", PAGE):
        assert setting in found(owner).model_fields, (setting, owner)  # type: ignore[attr-defined]
