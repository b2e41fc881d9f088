"""One holds a lock, the others are told so; a dead process holds none."""

import os
import signal
import time
from pathlib import Path

from fxgrow.documents import exclusive_lock, lock_holder


def test_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lock"
    with exclusive_lock(path) as mine:
        assert mine
        assert lock_holder(path) == f"process {os.getpid()}"
        with exclusive_lock(path) as others:
            assert not others
        assert lock_holder(path) == f"process {os.getpid()}"
    with exclusive_lock(path) as mine:
        assert mine


def test_a_lock_whose_file_was_removed_is_no_longer_that_lock(tmp_path: Path) -> None:
    with exclusive_lock(tmp_path / "lock") as mine:
        (tmp_path / "lock").unlink()
        with exclusive_lock(tmp_path / "lock") as new:
            assert mine and new


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with exclusive_lock(tmp_path / "lock"):
            (tmp_path / "held").touch()
            time.sleep(60)
        os._exit(0)
    while not (tmp_path / "held").exists():
        time.sleep(0.001)
    with exclusive_lock(tmp_path / "lock") as mine:
        assert not mine
        assert lock_holder(tmp_path / "lock") == f"process {child}"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with exclusive_lock(tmp_path / "lock") as mine:
        assert mine


def test_a_holder_without_a_name(tmp_path: Path) -> None:
    assert lock_holder(tmp_path / "none") == "another process"
    (tmp_path / "lock").write_bytes(b"\xff")
    assert lock_holder(tmp_path / "lock") == "another process"
