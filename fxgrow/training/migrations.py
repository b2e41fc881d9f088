"""How recipes and results of older versions become those of the present version."""

from fxgrow.documents import JsonData, rename_key


def rename_memory(data: JsonData) -> JsonData:
    """Version 1 to 2 of recipes and of run results: the setting ``memory`` is ``memory_limit``."""
    settings = data.get("settings")
    # A recipe may leave its settings out; what is no object is left to the model to refuse.
    if not isinstance(settings, dict):
        return data
    return {**data, "settings": rename_key(settings, "memory", "memory_limit")}
