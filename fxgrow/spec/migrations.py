"""The architecture document: its version, and how older ones become the present one."""

from fxgrow.documents import Document, JsonData
from fxgrow.spec.models import SCHEMA_VERSION, ArchitectureSpec


def one_to_two(data: JsonData) -> JsonData:
    """Version 2 records which neurons were split and what a layer is; what was not recorded stays at its default."""
    return data


ARCHITECTURE = Document("spec", ArchitectureSpec, SCHEMA_VERSION, {1: one_to_two})
