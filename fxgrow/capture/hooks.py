"""Forward hooks: which of them change values, and how both kinds get into a graph.

A hook that changes values is part of the model's function, so its operators belong into the graph;
a hook that only keeps something (a feature, a statistic) stays on its module and runs when the
module runs. A run of the model tells them apart.
"""

import copy
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

HOOK_TABLES = ("_forward_pre_hooks", "_forward_hooks")
"""The attributes in which a module holds its hooks, by number; torch numbers all hooks at once."""

UNTRACED_HOOK = "fxgrow_untraced_hook"
"""Key in the ``meta`` of a node whose module has a hook that changes values but has no graph."""

HOOKS_LEFT_OUT = "fxgrow_hooks_left_out"
"""Key in the ``meta`` of a graph module: paths of the modules whose hooks it does not run."""

Hook = Callable[..., Any]
Rewrap = Callable[[int, Hook], Hook]


def has_hooks(module: nn.Module) -> bool:
    """Whether a module has forward hooks or forward pre-hooks."""
    return any(vars(module).get(table) for table in HOOK_TABLES)


@contextmanager
def changing_hooks(model: nn.Module) -> Iterator[set[int]]:
    """Watch the hooks of a model while it runs.

    Args:
        model: is run inside.

    Yields:
        The numbers of the hooks that gave back another value, or wrote into one.
    """
    changing: set[int] = set()

    def watched(number: int, hook: Hook) -> Hook:
        def run(*args: Any, **kwargs: Any) -> Any:
            before = _versions((args, kwargs))
            result = hook(*args, **kwargs)
            if result is not None or _versions((args, kwargs)) != before:
                changing.add(number)
            return result

        return run

    with _rewrapped(model, watched):
        yield changing


@contextmanager
def tolerant_hooks(model: nn.Module, changing: Collection[int]) -> Iterator[None]:
    """Let hooks that change nothing fail on symbolic values.

    What they keep is used elsewhere or not; if it is, that place fails.

    Args:
        model: is traced inside.
        changing: the numbers of the hooks that change values, which must not fail.
    """

    def tolerant(number: int, hook: Hook) -> Hook:
        if number in changing:
            return hook

        def run(*args: Any, **kwargs: Any) -> None:
            try:
                hook(*args, **kwargs)
            except Exception:  # noqa: BLE001 - the user's hook meets symbolic values
                return

        return run

    with _rewrapped(model, tolerant):
        yield


@contextmanager
def _rewrapped(model: nn.Module, rewrap: Rewrap) -> Iterator[None]:
    """Put another function in the place of every hook, for a while."""
    before = []
    for module in model.modules():
        for name in HOOK_TABLES:
            table = vars(module).get(name)
            if table:
                before.append((table, dict(table)))
    try:
        for table, hooks in before:
            for number, hook in hooks.items():
                table[number] = rewrap(number, hook)
        yield
    finally:
        for table, hooks in before:
            table.update(hooks)


def _versions(values: Any) -> list[int]:
    """How often each tensor was written into."""
    tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
    return [0 if tensor.is_inference() else tensor._version for tensor in tensors]


@contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a call of a module run its hooks around another function."""
    own = vars(module).get("forward")
    vars(module)["forward"] = forward
    try:
        yield
    finally:
        if own is None:
            del vars(module)["forward"]
        else:
            vars(module)["forward"] = own


def hookless_twin(module: nn.Module, numbers: Collection[int]) -> nn.Module:
    """A module with the same parameters, buffers and children, without some of the hooks.

    Args:
        module: the module.
        numbers: of the hooks to leave out.

    Returns:
        Another object of the same class.
    """
    twin = copy.copy(module)
    for name in HOOK_TABLES:
        hooks = vars(module).get(name, {})
        kept = type(hooks)()
        for number, hook in hooks.items():
            if number not in numbers:
                kept[number] = hook
        vars(twin)[name] = kept
    return twin


def hook_numbers(module: nn.Module) -> set[int]:
    """The numbers of a module's hooks."""
    numbers: set[int] = set()
    for name in HOOK_TABLES:
        numbers.update(vars(module).get(name, {}))
    return numbers
