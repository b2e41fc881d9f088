"""Paths that are not what they seem: links, pipes, devices, directories, files that are cut short."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fxgrow.cli.main import app
from fxgrow.documents.files import sha256
from fxgrow.errors import SpecError
from tests.attacks.attacking import assert_refused, written
from tools.fuzzing.bases import Base

FILES = ("config.json", "model.safetensors")


@pytest.fixture
def sound(base: Base, tmp_path: Path) -> Path:
    return written(base, tmp_path / "sound", lambda _: None)


def link(path: Path) -> None:
    real = path.rename(path.parent.parent / "real")
    path.symlink_to(real)


def relative_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("../../../../../../etc/passwd")


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def listening(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
        Path(path.name).rename(path)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


ATTACKS: tuple[tuple[Callable[[Path], None], str], ...] = (
    (link, "symlink"),
    (relative_link, "symlink"),
    (link_to_itself, "symlink"),
    (device, "symlink"),
    (pipe, "not-a-file"),
    (listening, "not-a-file"),
    (directory, "not-a-file"),
    (Path.unlink, "missing-file"),
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("replace", "code"), ATTACKS, ids=[replace.__name__ for replace, _ in ATTACKS]
)
def test_a_file_that_is_something_else(
    replace: Callable[[Path], None], code: str, name: str, sound: Path
) -> None:
    replace(sound / name)
    assert_refused(sound, code, name)


def test_a_link_or_pipe_that_takes_a_files_place_is_not_followed_or_waited_for(
    sound: Path, tmp_path: Path
) -> None:
    """Opening looks again: between the look and the opening the file may have been replaced."""
    (tmp_path / "link").symlink_to(sound / "config.json")
    with pytest.raises(SpecError) as caught:
        sha256(tmp_path / "link")
    assert caught.value.code == "unreadable"
    os.mkfifo(tmp_path / "pipe")
    assert len(sha256(tmp_path / "pipe")) == 64


@pytest.mark.parametrize("name", ["missing", "config.json", "..", "a/../../b", "x" * 300, "\0"])
def test_a_directory_that_is_none(name: str, sound: Path) -> None:
    with pytest.raises(SpecError):
        sha256(sound / name / "config.json")


@pytest.mark.parametrize("command", [("check",), ("diff", "sound"), ("inspect",)])
def test_commands_refuse_in_one_sentence(command: tuple[str, ...], sound: Path) -> None:
    hostile = sound.parent / "hostile"
    hostile.mkdir()
    (hostile / "config.json").write_text('{"\\u001b[2J": [' + "1" * 5000 + "]}")
    done = CliRunner().invoke(app, [command[0], *command[1:], str(hostile)], prog_name="fxgrow")
    assert done.exit_code == 2, done.output
    assert done.stderr.rstrip().endswith("[bad-json]")
    assert "\x1b" not in done.stderr
