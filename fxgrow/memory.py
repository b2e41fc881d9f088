"""How much memory there is, and refusing what would not fit before any of it is taken."""

import functools
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.nn.parameter import is_lazy

from fxgrow.errors import FxgrowError, ModelError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""The file in which Linux keeps the memory limit of a container; ``max`` means no limit."""
MEMORY_INFO = Path("/proc/meminfo")
"""The file in which Linux says how much memory could be taken now."""
_KILOBYTE = 1024
_MODEL_COPIES = 2
"""A model and the copy that is trained or grown."""
# What torch says if a size is beyond what any machine can address.
_ALLOCATION_WORDS = ("allocate", "overflow", "out of memory", "invalid size", "exceeds")


def available_memory(device: torch.device | None = None) -> int:
    """Return the bytes of memory that can be taken now.

    Args:
        device: CUDA's: all of its memory; None or any other: that of this machine, within the
            limits of the container and of the process.

    """
    if device is not None and device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    bounds = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    free = _first_number(MEMORY_INFO, "MemAvailable:")
    if free is not None:
        bounds.append(free * _KILOBYTE)
    container = _first_number(CGROUP_LIMIT, "")
    if container is not None:
        bounds.append(container)
    of_process, _ = resource.getrlimit(resource.RLIMIT_AS)
    if of_process != resource.RLIM_INFINITY:
        bounds.append(of_process)
    return min(bounds)


def _first_number(path: Path, label: str) -> int | None:
    """The number after a label in a file of the system; None if there is no file or no number."""
    try:
        text = path.read_text(encoding="ascii")
    except OSError:
        return None
    words = text.partition(label)[2].split() if label else text.split()
    return int(words[0]) if words and words[0].isdecimal() else None


def require_memory(
    needed: int,
    what: str,
    advice: str,
    error: type[FxgrowError],
    device: torch.device | None = None,
) -> None:
    """Check that so many bytes can be taken.

    Args:
        needed: bytes.
        what: the plural of what needs them, for the message.
        advice: how to need less.
        error: the class of the error.
        device: where they are taken; None: in this machine's memory.

    Raises:
        FxgrowError: ``too-large``, as ``error``.

    """
    available = available_memory(device)
    if needed > available:
        raise error(
            "too-large",
            f"{what} need {needed} bytes of memory and there are {available}; {advice}",
        )


def device_of(module: nn.Module) -> torch.device | None:
    """The device of a module's first tensor; None if it has none."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return None


class _SizeCounter:
    """Counts the modules and bytes of a model while it is being built."""

    def __init__(self, label: str, most_modules: int) -> None:
        self.label, self.most_modules = label, most_modules
        self.available = available_memory()
        self.bytes = 0
        self.modules = 0

    def count_tensor(self, _module: nn.Module, _name: str, tensor: Any) -> None:
        """Count a parameter or buffer; lazy ones have no shape yet."""
        if not isinstance(tensor, Tensor) or is_lazy(tensor):
            return
        self.bytes += tensor.numel() * tensor.element_size()
        # The memory was asked for once: weights that are drawn meanwhile are counted here.
        if _MODEL_COPIES * self.bytes > self.available:
            raise ModelError(
                "too-large",
                f"{self.label} and one copy of it need more than {_MODEL_COPIES * self.bytes} "
                f"bytes of memory and there are {self.available}, so it was not built; ask for a "
                "smaller one",
            )

    def count_module(self, _module: nn.Module, _name: str, _child: Any) -> None:
        """Count a submodule."""
        self.modules += 1
        if self.modules > self.most_modules:
            raise ModelError(
                "too-large",
                f"{self.label} has more than {self.most_modules} modules, so it was not built; "
                "ask for a smaller one",
            )


@contextmanager
def bounded_model(label: str, most_modules: int) -> Iterator[None]:
    """Limit the size of a model that is built inside.

    Its modules and tensors are counted as they are registered, before weights are drawn.

    Args:
        label: names the model in the message.
        most_modules: how many modules it may have.

    Returns:
        A context manager that gives nothing.

    Raises:
        ModelError: ``too-large`` from inside the constructor, when a limit is passed.
    """
    counter = _SizeCounter(label, most_modules)
    # Torch calls these hooks for every module of the process until they are removed.
    handles = (
        hooks.register_module_parameter_registration_hook(counter.count_tensor),
        hooks.register_module_buffer_registration_hook(counter.count_tensor),
        hooks.register_module_module_registration_hook(counter.count_module),
    )
    try:
        yield
    except (RuntimeError, MemoryError, OverflowError) as error:
        if not is_allocation_failure(error):
            raise
        raise ModelError(
            "too-large",
            f"{label} needs a tensor that no memory here can hold, so it was not built; ask for a "
            "smaller one",
        ) from error
    finally:
        for handle in handles:
            handle.remove()


def counted_first(
    label: str, most_modules: int
) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Let a function that builds a model count it on the meta device first, without weights.

    Args:
        label: names the model in the message.
        most_modules: how many modules it may have.

    Returns:
        A decorator; the function then raises ``ModelError`` (``too-large``) before it takes memory.
    """

    def decorate(build: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        @functools.wraps(build)
        def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            # Initializers draw random numbers there too; the real weights must not depend on that.
            with (
                torch.random.fork_rng(devices=[]),
                torch.device("meta"),
                bounded_model(label, most_modules),
            ):
                build(*args, **kwargs)
            return build(*args, **kwargs)

        return wrapper

    return decorate


def is_allocation_failure(error: BaseException) -> bool:
    """Whether an error says that memory could not be taken, or that a size is beyond any memory."""
    if isinstance(error, (MemoryError, OverflowError)):
        return True
    words = str(error)
    return isinstance(error, RuntimeError) and any(word in words for word in _ALLOCATION_WORDS)
