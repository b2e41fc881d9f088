"""The architecture document: its version, and how older versions become the current one."""

from fxgrow.documents import Document, JsonData
from fxgrow.spec.models import SCHEMA_VERSION, ArchitectureSpec


def one_to_two(data: JsonData) -> JsonData:
    """Version 2 records which neurons were split and what a layer is.

    Version 1 did not record either, so both stay at their defaults.
    """
    return data


def two_to_three(data: JsonData) -> JsonData:
    """Version 3 records lists of blocks that growth made longer; version 2 had no such steps."""
    return data


ARCHITECTURE = Document("spec", ArchitectureSpec, SCHEMA_VERSION, {1: one_to_two, 2: two_to_three})
"""How ``config.json`` is read, in every version ever written."""
