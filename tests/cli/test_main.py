"""The program itself: its help, its version, its table of commands, and what it imports for them."""

import importlib
import inspect
import re
import subprocess
import sys

import pytest

from fxgrow import __version__
from fxgrow.cli.cells.app import CellsGroup
from fxgrow.cli.continual.app import ContinualGroup
from fxgrow.cli.lazy_group import CommandRow, LazyGroup
from fxgrow.cli.main import FxgrowGroup
from tests.cli.conftest import Fxgrow

GROUPS: tuple[type[LazyGroup], ...] = (FxgrowGroup, CellsGroup, ContinualGroup)
ROWS = [row for group in GROUPS for row in group.table]
HEAVY = "torch numpy networkx scipy sympy torchvision onnx yaml safetensors"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.target)
def test_the_help_of_a_group_says_what_its_commands_say(row: CommandRow) -> None:
    module, _, name = row.target.partition(":")
    target = getattr(importlib.import_module(module), name)
    text = target.help if isinstance(target, LazyGroup) else inspect.getdoc(target)
    assert row.summary == " ".join(text.partition("\n\n")[0].split())


REQUESTS = (
    (),
    ("--help",),
    ("--version",),
    ("grwo",),
    ("cells", "--help"),
    ("continual", "--help"),
)


@pytest.mark.parametrize("words", REQUESTS, ids=" ".join)
def test_help_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    code = (
        "import sys\n"
        "from fxgrow.cli.main import app\n"
        "try:\n"
        f"    app({list(words)}, prog_name='fxgrow')\n"
        "except SystemExit:\n"
        f"    heavy = set({HEAVY!r}.split()) & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)


def test_help_lists_all_commands_in_order(fxgrow: Fxgrow) -> None:
    text = fxgrow("--help").output
    found = re.findall(r"^│ ([a-z]+) ", text, flags=re.MULTILINE)
    assert found == [row.name for row in FxgrowGroup.table]
    assert "Grow neural networks while keeping their function." in text


def test_version(fxgrow: Fxgrow) -> None:
    result = fxgrow("--version")
    assert (result.exit_code, result.output) == (0, f"fxgrow {__version__}\n")


@pytest.mark.parametrize(
    ("words", "nearest"), [(("grwo",), "grow"), (("cells", "drwa"), "draw"), (("shrink",), "")]
)
def test_an_unknown_command_is_told_the_nearest(
    fxgrow: Fxgrow, words: tuple[str, ...], nearest: str
) -> None:
    result = fxgrow(*words)
    assert result.exit_code == 2
    assert f"No such command '{words[-1]}'" in result.output
    assert ("Did you mean" in result.output) == bool(nearest)
    assert nearest in result.output


def test_a_command_has_the_name_of_its_row_in_its_help(fxgrow: Fxgrow) -> None:
    assert "Usage: fxgrow cells draw [OPTIONS]" in fxgrow("cells", "draw", "--help").output
