"""Renamed keys in old documents: the step that most migrations consist of."""

from fxgrow.documents.document import JsonData


def rename_key(data: JsonData, old: str, new: str) -> JsonData:
    """A copy of ``data`` in which the value of ``old`` stands under ``new``, at the same place.

    Args:
        data: a JSON object; one without ``old`` is copied as it is, since the field has a default.
        old: the key in the older version.
        new: the key that replaces it.

    Returns:
        The copy; ``data`` is left alone.

    Raises:
        ValueError: ``new`` is there, which the older version did not know. ``Document`` refuses
            such a file, as it would refuse any other unknown key.

    Example:
        >>> rename_key({"seed": 0, "memory": 8e9}, "memory", "memory_limit")
        {'seed': 0, 'memory_limit': 8000000000.0}
    """
    if new in data:
        raise ValueError(f"unknown key {new}")
    return {new if key == old else key: value for key, value in data.items()}
