"""How cell searches of older versions become those of the present version."""

from fxgrow.documents import JsonData, rename_key

# Fields of ``Derivation`` in version 1, and what they are called now.
_RENAMED = {"little": "identity_threshold", "against_average": "normalize_by_operation"}


def rename_derivation(data: JsonData) -> JsonData:
    """Version 1 to 2: two settings of the derivation of cells have other names.

    The settings are those of any search method, and only a search by growth has a derivation.
    """
    settings = data["settings"]
    derivation = settings.get("derivation")
    if not isinstance(derivation, dict):
        return data
    for old, new in _RENAMED.items():
        derivation = rename_key(derivation, old, new)
    return {**data, "settings": {**settings, "derivation": derivation}}
