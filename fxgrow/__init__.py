"""fxgrow: a graph-rewriting compiler that makes neural networks grow.

``import fxgrow`` imports nothing but this file; a public name imports its module when it is first
asked for, and with it torch. So the command line can print its help at once.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fxgrow.version import __version__

if TYPE_CHECKING:  # what type checkers and editors read; the same names stand in _HOMES
    from fxgrow.api import grow, save
    from fxgrow.capture import Captured, capture
    from fxgrow.coupling import Coupling, Width, couple, register_rule
    from fxgrow.errors import (
        ArgumentError,
        BudgetError,
        DataError,
        ExportError,
        FxgrowError,
        GrowthError,
        InternalError,
        ModelError,
        Refusal,
        RunError,
        SpecError,
        TrainingError,
    )
    from fxgrow.export import export
    from fxgrow.growth import (
        BatchLoss,
        Budget,
        Deepened,
        Expanded,
        Extended,
        Growth,
        GrowthReport,
        Method,
        Scope,
        Widened,
        deepen,
        grow_classes,
        grow_experts,
        grow_to,
        grow_vocabulary,
        upcycle,
        widen,
    )
    from fxgrow.lowering import lower
    from fxgrow.methods import Auto, Firefly, RandomGrowth, Splitting, ZeroOutgoing
    from fxgrow.spec import ArchitectureSpec, SpecDiff, diff, load
    from fxgrow.surgery import NewEntryRate, follow_ages
    from fxgrow.training import Grower

__all__ = [
    "ArchitectureSpec",
    "ArgumentError",
    "Auto",
    "BatchLoss",
    "Budget",
    "BudgetError",
    "Captured",
    "Coupling",
    "DataError",
    "Deepened",
    "Expanded",
    "ExportError",
    "Extended",
    "Firefly",
    "FxgrowError",
    "Grower",
    "Growth",
    "GrowthError",
    "GrowthReport",
    "InternalError",
    "Method",
    "ModelError",
    "NewEntryRate",
    "RandomGrowth",
    "Refusal",
    "RunError",
    "Scope",
    "SpecDiff",
    "SpecError",
    "Splitting",
    "TrainingError",
    "Widened",
    "Width",
    "ZeroOutgoing",
    "__version__",
    "capture",
    "couple",
    "deepen",
    "diff",
    "export",
    "follow_ages",
    "grow",
    "grow_classes",
    "grow_experts",
    "grow_to",
    "grow_vocabulary",
    "load",
    "lower",
    "register_rule",
    "save",
    "upcycle",
    "widen",
]

# Which module the names are imported from, at run time.
_HOMES = {
    "fxgrow.api": "grow save",
    "fxgrow.capture": "Captured capture",
    "fxgrow.coupling": "Coupling Width couple register_rule",
    "fxgrow.errors": "ArgumentError BudgetError DataError ExportError FxgrowError GrowthError "
    "InternalError ModelError Refusal RunError SpecError TrainingError",
    "fxgrow.export": "export",
    "fxgrow.growth": "BatchLoss Budget Deepened Expanded Extended Growth GrowthReport Method "
    "Scope Widened deepen grow_classes grow_experts grow_to grow_vocabulary "
    "upcycle widen",
    "fxgrow.lowering": "lower",
    "fxgrow.methods": "Auto Firefly RandomGrowth Splitting ZeroOutgoing",
    "fxgrow.spec": "ArchitectureSpec SpecDiff diff load",
    "fxgrow.surgery": "NewEntryRate follow_ages",
    "fxgrow.training": "Grower",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

# What is an attribute of fxgrow without an import of its own. The attributes ``fxgrow.capture``
# and ``fxgrow.export`` are the functions.
_PACKAGES = (
    "cells", "cli", "continual", "coupling", "data", "documents", "errors", "growth",
    "integrations", "lowering", "methods", "report", "rewrite", "spec", "surgery", "training",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name or a package when it is first asked for."""
    if name in _HOME_OF:
        value = getattr(importlib.import_module(_HOME_OF[name]), name)
        globals()[name] = value  # found without this function from now on
        return value
    if name in _PACKAGES:
        return importlib.import_module(f"fxgrow.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What ``dir(fxgrow)`` lists: the public names, and the packages, imported or not yet."""
    return sorted({*globals(), *__all__, *_PACKAGES})


class _Package(ModuleType):
    """This module, in which the functions ``capture`` and ``export`` hide packages of that name."""

    def __setattr__(self, name: str, value: Any) -> None:
        # Python binds each package that was imported to its parent, over the function if it may.
        if not (name in _HOME_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
