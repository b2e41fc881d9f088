"""Run a graph node by node, as the code that torch.fx generates for it would."""

from typing import Any

from torch import fx


class Interpreter(fx.Interpreter):
    """An interpreter that gives functions lists and dicts that they may change.

    Those that a node holds are immutable; the generated code makes new ones at each call.
    """

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        return tuple(_mutable(arg) for arg in args), _mutable(kwargs)


def _mutable(value: Any) -> Any:
    """A value with its immutable lists and dicts, nested ones included, as plain ones."""
    if isinstance(value, fx.immutable_collections.immutable_list):
        return [_mutable(entry) for entry in value]
    if isinstance(value, fx.immutable_collections.immutable_dict) or type(value) is dict:
        return {key: _mutable(entry) for key, entry in value.items()}
    if type(value) is tuple:
        return tuple(_mutable(entry) for entry in value)
    return value
