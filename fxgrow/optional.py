"""Optional packages: imported where they are used, and missed in words that name the extra to install."""

from importlib import import_module
from types import ModuleType

from fxgrow.errors import FxgrowError


def require(module: str, *, extra: str, error: type[FxgrowError]) -> ModuleType:
    """Import ``module``, which belongs to the optional dependencies ``fxgrow[extra]``.

    Raises ``error`` with code ``missing-extra`` if the package is not installed. A package that is installed but broken
    raises its own ``ImportError``: installing the extra again would not help.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        package = module.partition(".")[0]
        if missing.name is None or missing.name.partition(".")[0] != package:
            raise
        raise error(
            "missing-extra",
            f"the package {package!r} is not installed; install it with pip install 'fxgrow[{extra}]'",
        ) from missing
