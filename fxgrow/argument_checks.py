"""Checks of arguments against the annotations of a function, before any work is spent.

Type checkers see most wrong calls; notebooks do not run them. A public function says ``@checked``
and its annotations are then also what a call is held to: types, what containers hold, and ranges
(``Annotated[int, Within(1, 64)]``).
"""

import functools
import inspect
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from collections.abc import Callable as AbstractCallable
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, Protocol, TypeVar, Union

import torch
from torch import Tensor, fx, nn

from fxgrow.argument_types import UNCHECKED, Satisfies, Within
from fxgrow.errors import ArgumentError

_SHOWN = 80
"""Characters of a wrong value that a message repeats."""
_PLAIN_TYPES = (str, bool, int, float, bytes, type(None))

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Misfit:
    """What does not fit its annotation.

    Args:
        name: the argument, or the place in it (``amounts['0']``).
        value: what is there.
        wanted: what has to be there.
    """

    name: str
    value: Any
    wanted: str


def shown(value: Any) -> str:
    """A wrong value as a message repeats it: short, and without running its own code."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if not isinstance(value, _PLAIN_TYPES):
        return f"a value of type {type(value).__name__}"
    try:
        return repr(value)[:_SHOWN]
    except ValueError:  # Python refuses to write out integers of thousands of digits
        return "a number of very many digits"


def checked(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Hold the calls of a function to its annotations.

    Args:
        function: its annotated parameters are checked; others, and what it returns, are not.

    Returns:
        The same function; a wrong call raises ``ArgumentError`` (``bad-argument``).

    Example:
        >>> from fxgrow.argument_types import Count
        >>> @checked
        ... def repeat(word: str, times: Count = 1) -> str:
        ...     return word * times
        >>> repeat("a", 0)
        Traceback (most recent call last):
        fxgrow.errors.ArgumentError: repeat() cannot use times=0; give a whole number from 1 to ...
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            call = signature.bind(*args, **kwargs)
        except TypeError:
            # Python's own error for a missing or unknown argument.
            return function(*args, **kwargs)
        require_fit(function, call.arguments)
        for name, hint in _argument_hints(function).items():
            # A text where a path is asked for becomes one.
            if hint is Path and name in call.arguments:
                call.arguments[name] = Path(call.arguments[name])
        return function(*call.args, **call.kwargs)

    return wrapper


Class = TypeVar("Class", bound=type)


def checked_class(cls: Class) -> Class:
    """Hold the construction of a class to the annotations of its ``__init__`` (a dataclass's too).

    Args:
        cls: is changed in place.

    Returns:
        The class itself.
    """
    constructor = checked(cls.__init__)  # type: ignore[misc]
    constructor.__qualname__ = cls.__name__
    cls.__init__ = constructor  # type: ignore[misc]
    return cls


def require_fit(
    function: Callable[..., Any], given: Mapping[str, Any], caller: str | None = None
) -> None:
    """Hold arguments to the annotations of a function that is to be called with them.

    Args:
        function: what is called now, or later.
        given: arguments by name; some may be missing.
        caller: whose call a message blames; None: the function.

    Raises:
        ArgumentError: ``bad-argument``: one does not fit.
    """
    hints = _argument_hints(function)
    for name, value in given.items():
        misfit = find_misfit(name, value, hints.get(name, Any))
        if misfit is not None:
            words = caller or function.__qualname__.removesuffix(".__init__")
            raise ArgumentError(
                "bad-argument",
                f"{words}() cannot use {misfit.name}={shown(misfit.value)}; give {misfit.wanted}",
            )


@functools.cache
def _argument_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of the parameters; that of the result may name what is never imported."""
    annotations = dict(getattr(function, "__annotations__", {}))
    annotations.pop("return", None)
    holder = types.SimpleNamespace(__annotations__=annotations)
    names = getattr(function, "__globals__", {})
    return typing.get_type_hints(holder, globalns=names, include_extras=True)


def find_misfit(name: str, value: Any, hint: Any) -> Misfit | None:
    """Find the first place where a value does not fit an annotation.

    Args:
        name: of the value, for the message.
        value: what was given; iterators in it are not consumed.
        hint: an annotation.

    Returns:
        The place, or None if all fits.
    """
    if isinstance(value, fx.Proxy):  # it stands for a value while torch.fx traces
        return None
    find = _FINDERS.get(typing.get_origin(hint) or hint, _plain_misfit)
    return find(name, value, hint)


def described_hint(hint: Any) -> str:
    """An annotation in the words of a message."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        conditions = " ".join(rule.words for rule in arguments[1:] if hasattr(rule, "words"))
        return f"{described_hint(arguments[0])} {conditions}".strip()
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(described_hint, arguments)))
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    kind = origin or hint
    return _WORDS.get(kind) or f"a {getattr(kind, '__name__', kind)}"


# How each kind of annotation is checked.


def _anything(_name: str, _value: Any, _hint: Any) -> Misfit | None:
    return None


def _plain_misfit(name: str, value: Any, hint: Any) -> Misfit | None:
    """A class, or a protocol, by its attributes: most of ours cannot be asked by ``isinstance``."""
    kind = typing.get_origin(hint) or hint
    if getattr(kind, "_is_protocol", False):
        fits = not isinstance(value, type) and _offers(value, kind)
    elif isinstance(kind, type):
        fits = isinstance(value, kind)
    else:  # a type variable, or another form that says nothing about values
        fits = True
    return None if fits else Misfit(name, value, described_hint(hint))


def _offers(value: Any, protocol: type) -> bool:
    """Whether a value has every member of a protocol, and its methods take the same arguments."""
    for name, member in _members(protocol).items():
        if not hasattr(value, name):
            return False
        is_method = inspect.isfunction(member) and not name.startswith("__")
        if is_method and not _takes(getattr(value, name), _parameters_after_self(member)):
            return False
    return True


_NOT_MEMBERS = {"__init__", "__subclasshook__"}


@functools.cache
def _members(protocol: type) -> dict[str, Any]:
    """What a protocol prescribes: methods and properties."""
    members: dict[str, Any] = {}
    for kind in protocol.__mro__:
        if not getattr(kind, "_is_protocol", False) or kind is Protocol:
            continue
        for name, member in vars(kind).items():
            is_member = inspect.isfunction(member) or isinstance(member, property)
            if is_member and name not in _NOT_MEMBERS:
                members.setdefault(name, member)
    return members


def _parameters_after_self(method: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(method).parameters.values())[1:]


def _takes(function: Any, parameters: Sequence[inspect.Parameter]) -> bool:
    """Whether a function can be called with such arguments; it is not called."""
    named = {item.name: None for item in parameters if item.kind is inspect.Parameter.KEYWORD_ONLY}
    by_place = [None] * (len(parameters) - len(named))
    try:
        inspect.signature(function).bind(*by_place, **named)
    except (TypeError, ValueError):  # ValueError: written in C, so it is no method of ours
        return False
    return True


def _none_misfit(name: str, value: Any, _hint: Any) -> Misfit | None:
    return None if value is None else Misfit(name, value, "None")


def _whole_misfit(name: str, value: Any, hint: Any) -> Misfit | None:
    # True and False are integers to Python; as a number of things they are a mistake.
    fits = isinstance(value, Integral) and not isinstance(value, bool)
    return None if fits else Misfit(name, value, described_hint(hint))


def _real_misfit(name: str, value: Any, hint: Any) -> Misfit | None:
    fits = isinstance(value, Real) and not isinstance(value, bool)
    return None if fits else Misfit(name, value, described_hint(hint))


def _path_misfit(name: str, value: Any, hint: Any) -> Misfit | None:
    if not isinstance(value, (str, os.PathLike)):
        return Misfit(name, value, described_hint(hint))
    words = "a path that is not empty and has no null byte"
    return None if _is_path_text(os.fspath(value)) else Misfit(name, value, words)


def _is_path_text(text: Any) -> bool:
    """Whether the operating system could look for it; "" would mean the current directory."""
    if not isinstance(text, str) or not text or "\0" in text:
        return False
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _union_misfit(name: str, value: Any, hint: Any) -> Misfit | None:
    members = typing.get_args(hint)
    # A text where a path may be has to be one that can be looked for.
    if Path in members and isinstance(value, (str, os.PathLike)):
        return _path_misfit(name, value, Path)
    deepest = Misfit(name, value, described_hint(hint))
    for member in members:
        misfit = find_misfit(name, value, member)
        if misfit is None:
            return None
        # Of a list with a wrong entry the entry is to blame, not the list.
        if len(misfit.name) > len(deepest.name):
            deepest = misfit
    return deepest


def _literal_misfit(name: str, value: Any, hint: Any) -> Misfit | None:
    # By type too, because True equals 1; and without ``in``, which a tensor's ``==`` would break.
    for allowed in typing.get_args(hint):
        if type(value) is type(allowed) and value == allowed:
            return None
    return Misfit(name, value, described_hint(hint))


def _annotated_misfit(name: str, value: Any, hint: Any) -> Misfit | None:
    bare, *rules = typing.get_args(hint)
    if UNCHECKED in rules:
        return None
    misfit = find_misfit(name, value, bare)
    if misfit is not None:
        is_whole_value = misfit.name == name
        return Misfit(name, value, described_hint(hint)) if is_whole_value else misfit
    for rule in rules:
        if isinstance(rule, (Within, Satisfies)) and not rule.holds(value):
            return Misfit(name, value, described_hint(hint))
    return None


def _callable_misfit(name: str, value: Any, hint: Any) -> Misfit | None:
    if not callable(value):
        return Misfit(name, value, described_hint(hint))
    arguments = typing.get_args(hint)
    if not arguments or arguments[0] is Ellipsis:
        return None
    count = len(arguments[0])
    # A module takes what its forward takes.
    function = value.forward if isinstance(value, nn.Module) else value
    try:
        inspect.signature(function).bind(*[None] * count)
    except ValueError:  # a function written in C, whose signature nobody knows
        return None
    except TypeError:
        return Misfit(name, value, f"a function that takes {count} arguments")
    return None


def _mapping_misfit(name: str, value: Any, hint: Any) -> Misfit | None:
    kind = typing.get_origin(hint) or hint
    if not isinstance(value, kind):
        return Misfit(name, value, described_hint(hint))
    key_hint, item_hint = typing.get_args(hint) or (Any, Any)
    for key, item in value.items():
        place = f"{name}[{shown(key)}]"
        misfit = find_misfit(f"a key of {name}", key, key_hint)
        misfit = misfit or find_misfit(place, item, item_hint)
        if misfit is not None:
            return misfit
    return None


def _items_misfit(name: str, value: Any, hint: Any) -> Misfit | None:
    """A sequence or set; a text is none, for its letters would count as entries."""
    kind = typing.get_origin(hint) or hint
    if not isinstance(value, kind) or isinstance(value, (str, bytes)):
        return Misfit(name, value, described_hint(hint))
    arguments = typing.get_args(hint)
    item_hint = arguments[0] if arguments else Any
    for place, item in enumerate(value):
        misfit = find_misfit(f"{name}[{place}]", item, item_hint)
        if misfit is not None:
            return misfit
    return None


def _tuple_misfit(name: str, value: Any, hint: Any) -> Misfit | None:
    arguments = typing.get_args(hint)
    if not arguments or arguments[-1] is Ellipsis:
        return _items_misfit(name, value, hint)
    if not isinstance(value, tuple) or len(value) != len(arguments):
        return Misfit(name, value, f"a tuple of {len(arguments)}")
    for place, (item, item_hint) in enumerate(zip(value, arguments, strict=True)):
        misfit = find_misfit(f"{name}[{place}]", item, item_hint)
        if misfit is not None:
            return misfit
    return None


def _iterable_misfit(name: str, value: Any, hint: Any) -> Misfit | None:
    # Its entries are not looked at: a generator can be used only once.
    is_text = isinstance(value, (str, bytes))
    fits = not is_text and (hasattr(value, "__iter__") or hasattr(value, "__getitem__"))
    return None if fits else Misfit(name, value, described_hint(hint))


_FINDERS: Mapping[Any, Callable[[str, Any, Any], Misfit | None]] = {
    Any: _anything,
    object: _anything,
    None: _none_misfit,
    type(None): _none_misfit,
    int: _whole_misfit,
    float: _real_misfit,
    Path: _path_misfit,
    Union: _union_misfit,
    types.UnionType: _union_misfit,
    Literal: _literal_misfit,
    Annotated: _annotated_misfit,
    AbstractCallable: _callable_misfit,
    dict: _mapping_misfit,
    Mapping: _mapping_misfit,
    list: _items_misfit,
    set: _items_misfit,
    frozenset: _items_misfit,
    Set: _items_misfit,
    Sequence: _items_misfit,
    tuple: _tuple_misfit,
    Iterable: _iterable_misfit,
}

_WORDS: Mapping[Any, str] = {
    None: "None",
    type(None): "None",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    Tensor: "a tensor",
    torch.device: "a device",
    str: "a text",
    Path: "a path",
    AbstractCallable: "a function",
    dict: "a dict",
    Mapping: "a dict",
    list: "a list",
    set: "a set",
    frozenset: "a frozenset",
    Set: "a set",
    Sequence: "a list or tuple",
    tuple: "a tuple",
    Iterable: "a list or another iterable",
}
