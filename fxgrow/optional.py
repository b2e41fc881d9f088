"""Optional packages: imported on first use; if missing, the error names the extra to install."""

from importlib import import_module
from types import ModuleType

from fxgrow.errors import FxgrowError


def require(module: str, *, extra: str, error: type[FxgrowError]) -> ModuleType:
    """Import a module that belongs to the optional dependencies ``fxgrow[extra]``.

    Args:
        module: the dotted name of the module.
        extra: the extra of ``pyproject.toml`` that installs it.
        error: the class of the error to raise if the package is not installed.

    Returns:
        The imported module.

    Raises:
        FxgrowError: of class ``error``, with code ``missing-extra``, if the package is not
            installed.
        ImportError: the package's own, if it is installed but broken; installing the extra again
            would not help.

    Example:
        >>> models = require("torchvision.models", extra="vision", error=ModelError)
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        package = module.partition(".")[0]
        # The package is there and something that it needs is not: its own message is better.
        if missing.name is None or missing.name.partition(".")[0] != package:
            raise
        command = f"pip install 'fxgrow[{extra}]'"
        raise error(
            "missing-extra",
            f"the package {package!r} is not installed; install it with {command}",
        ) from missing
