"""``package.module:factory``: the one kind of reference that runs code of somebody else."""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from fxgrow.cells import named_network
from fxgrow.cli import options as tables
from fxgrow.cli.options import OptionKind
from fxgrow.cli.reference_grammar import Reference
from fxgrow.cli.schemes.construction import (
    IMAGE,
    ResolvedModel,
    check_known,
    check_option_values,
    construct,
    explicit_options,
    with_classes,
    with_inputs,
    wrong_options,
)
from fxgrow.cli.trust import Trust, is_ascii_identifier, is_module_name
from fxgrow.documents import limits
from fxgrow.errors import ModelError

# Factories of fxgrow itself with their options. They need no trust, because recipes that ``fxgrow
# cells train`` writes name them.
OWN_FACTORIES: Mapping[str, tuple[Callable[..., nn.Module], Mapping[str, OptionKind]]] = (
    MappingProxyType(
        {"fxgrow.cells.evaluation:named_network": (named_network, tables.CELLS_OPTIONS)}
    )
)


def python_factory(reference: Reference, classes: int | None, trust: Trust) -> ResolvedModel:
    """Call ``package.module:factory?option=value``.

    The factory (a function or a module class) returns an ``nn.Module``, or that and a tuple of
    example inputs. Modules are looked for in the current directory too.

    Args:
        reference: the parsed reference.
        classes: number of classes of the data, if any.
        trust: whether the module may be imported, which runs its code.

    Returns:
        The model with example inputs.

    Raises:
        ModelError: ``untrusted-factory`` before anything is imported; else if there is no such
            factory, it does not take these options, or it returns no module.
    """
    if reference.name in OWN_FACTORIES:
        return _own_factory(reference, classes)
    module_name, name = check_factory(reference, trust)
    with _current_directory_importable():
        factory = _import_factory(module_name, name)
        trust.check_factory(factory, module_name, name)
        accepted = explicit_options(inspect.signature(factory))
        reference = with_classes(
            reference, classes, "num_classes" if "num_classes" in accepted else None
        )
        try:
            inspect.signature(factory).bind(**reference.options)
        except TypeError as error:
            raise wrong_options(reference, str(error), accepted) from error
        # Outside of ``try``: a TypeError inside the factory is a bug of its own.
        result = factory(**reference.options)
    return _from_factory(result, reference)


def _from_factory(result: Any, reference: Reference) -> ResolvedModel:
    """The model, and perhaps the example inputs, that a factory returned."""
    is_pair = isinstance(result, tuple) and len(result) == 2
    model, inputs = result if is_pair else (result, None)
    if not isinstance(model, nn.Module):
        raise ModelError(
            "not-a-model",
            f"{reference.label} returned a {type(model).__name__}, which cannot be grown; return "
            "an nn.Module, or one and a tuple of example inputs",
        )
    if inputs is None or reference.inputs:
        return with_inputs(model, reference, (IMAGE,))
    arguments = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    return ResolvedModel(model, arguments, reference.label, reference.width, stated=True)


def check_factory(reference: Reference, trust: Trust) -> tuple[str, str]:
    """Check that a factory may be used; nothing is imported.

    Args:
        reference: a parsed reference of the scheme ``python``.
        trust: which modules may be imported.

    Returns:
        The names of the module and of the factory in it.

    Raises:
        ModelError: ``bad-reference`` or ``untrusted-factory``.
    """
    module_name, _, name = reference.name.partition(":")
    if not is_module_name(module_name) or not is_ascii_identifier(name):
        shown = reference.name[: limits.MESSAGE]
        raise ModelError(
            "bad-reference", f"{shown!r} names no factory; write package.module:factory"
        )
    if reference.name not in OWN_FACTORIES:
        trust.check_import(module_name, name)
    return module_name, name


def _own_factory(reference: Reference, classes: int | None) -> ResolvedModel:
    factory, table = OWN_FACTORIES[reference.name]
    check_option_values(reference, table)
    reference = with_classes(reference, classes, "num_classes")
    model = construct(factory, reference, reference.options, frozenset(table))
    return with_inputs(model, reference, (IMAGE,))


@contextmanager
def _current_directory_importable() -> Iterator[None]:
    # Last, so that a file of the user's cannot stand in for a library.
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _import_factory(module_name: str, name: str) -> Callable[..., Any]:
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        # A module that is there but imports one that is not has its own, better message.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ModelError(
            "unknown-model",
            f"there is no module {error.name!r} to import {name!r} from; check the name (or the "
            "scheme: torchvision, timm, hf), or run where the module can be found",
        ) from error
    functions = [key for key, value in vars(module).items() if callable(value)]
    check_known(name, functions, module_name)
    factory: Callable[..., Any] = getattr(module, name)
    return factory
