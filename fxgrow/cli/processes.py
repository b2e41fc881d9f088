"""The processes that ``torchrun`` starts of one command: one writes and prints, the others help.

All of them run the same command. What is wrong with it, all of them find; and where one fails, the
others notice. So an error is told by whoever meets it first, and by nobody else.
"""

import gc
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Any

from fxgrow.errors import FxgrowError, TrainingError

TIMEOUT = 60.0
"""Seconds that a process waits for the others in an exchange. If one is killed, gloo knows at
once."""
_FOR_A_REASON = 3.0
"""Seconds in which a process that failed says why, before another one says that it is gone."""
_PAUSE = 0.05
_TOLD = "fxgrow/told"


def num_processes() -> int:
    """How many processes ``torchrun`` has started of this command; 1 without it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return 1
    return int(os.environ["WORLD_SIZE"])


def launcher() -> str:
    """What has to stand before ``fxgrow`` in a command, to start as many processes again."""
    if num_processes() == 1:
        return ""
    return f"torchrun --nproc-per-node={os.environ['LOCAL_WORLD_SIZE']} -m "


def device_name(name: str) -> str:
    """The name of the device of this process, which has a GPU of its own.

    Args:
        name: of the device that was asked for.

    Raises:
        TrainingError: ``no-device``: several processes cannot compute there.
    """
    if num_processes() == 1 or name == "cpu":
        return name
    if name != "cuda":
        raise TrainingError(
            "no-device",
            f"--device {name} is one device, and torchrun has started {num_processes()} processes; "
            "give cuda, and each takes a GPU of its own, or cpu",
        )
    return f"cuda:{os.environ['LOCAL_RANK']}"


@contextmanager
def process_group(device: str) -> Iterator[bool]:
    """Begin the group of the processes that ``torchrun`` has started; alone, nothing is begun.

    All but the first process are silent inside.

    Args:
        device: the name of this process's device.

    Returns:
        A context manager that gives whether this process is the one that writes and prints.

    Raises:
        TrainingError: ``rank-failed``: not all of them came.
    """
    if num_processes() == 1:
        yield True
        return
    import torch
    import torch.distributed as dist

    from fxgrow.ranks import Ranks

    is_cuda = device.startswith("cuda")
    # Messages of nccl go by the current device.
    if is_cuda:
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("nccl" if is_cuda else "gloo", timeout=timedelta(seconds=TIMEOUT))
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(
            "rank-failed",
            f"the {num_processes()} processes that torchrun has started did not find each other "
            f"({reason}); start all of them again",
        ) from error
    ranks = Ranks.of_process()
    try:
        with nullcontext() if ranks.is_first else _silence():
            yield ranks.is_first
        # None leaves before the run is in its place: torchrun would end the others if one went
        # wrong on its way out.
        ranks.meet()
    finally:
        # Wrappers of the model hold the group, in cycles. Its threads would go on while Python
        # ends, and a tensor that one of them drops then could abort the process.
        gc.collect()
        dist.destroy_process_group()


@contextmanager
def _silence() -> Iterator[None]:
    """Let nothing that is printed or warned of be seen."""
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def ending_in_peace() -> Iterator[None]:
    """Let a command that fails say why, and how to go on.

    Where one process fails, ``torchrun`` tells all others to end, and they are about to.
    """
    try:
        yield
    except BaseException:
        if num_processes() > 1 and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise


def tells(error: BaseException) -> bool:
    """Whether this process is the one that tells of an error: of several, the first that has one.

    Args:
        error: the command ends with it.
    """
    if num_processes() == 1:
        return True
    try:
        store = _store()
        if isinstance(error, FxgrowError) and error.code == "rank-failed":
            _wait_for_a_reason(store)
        return bool(store.add(_key(), 1) == 1)
    except (RuntimeError, ValueError):  # nobody is left to agree with
        return True


def _wait_for_a_reason(store: Any) -> None:
    """Give the process that failed time to say why; one that was killed says nothing."""
    end = time.monotonic() + _FOR_A_REASON
    while time.monotonic() < end and not store.check([_key()]):
        time.sleep(_PAUSE)


def _store() -> Any:
    """The store of ``torchrun``, which outlives its processes."""
    import torch.distributed as dist

    return dist.TCPStore(  # type: ignore[attr-defined]  # torch does not say that it has it
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=False,
        timeout=timedelta(seconds=_FOR_A_REASON),
    )


def _key() -> str:
    """Under which it stands how many processes have failed since they were started."""
    return f"{_TOLD}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
