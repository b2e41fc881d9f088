"""The architecture document: its version, and how older versions become the current one."""

from fxgrow.documents import Document, JsonData
from fxgrow.spec.models import SCHEMA_VERSION, ArchitectureSpec


def one_to_two(data: JsonData) -> JsonData:
    """Version 2 records which neurons were split and what a layer is.

    Version 1 did not record either, so both stay at their defaults.
    """
    return data


ARCHITECTURE = Document("spec", ArchitectureSpec, SCHEMA_VERSION, {1: one_to_two})
"""How ``config.json`` is read, in every version ever written."""
