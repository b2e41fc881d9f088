"""The base class of every pydantic model that fxgrow reads from a file or writes to one."""

from pydantic import ConfigDict

from fxgrow.documents.settings import Settings


class StrictModel(Settings):
    """Base of all document models: immutable, no unknown fields, no type coercion, no NaN.

    Strict, because a value that pydantic would silently convert (``"1"`` to ``1``) is a mistake in
    a file; frozen, because documents are compared, hashed and shared.
    """

    model_config = ConfigDict(strict=True, allow_inf_nan=False)
