import pytest

from fxgrow.documents import JsonData, rename_key


def test_a_key_is_renamed_where_it_stands() -> None:
    data: JsonData = {"a": 1, "b": [2], "c": 3}
    renamed = rename_key(data, "b", "d")
    assert list(renamed.items()) == [("a", 1), ("d", [2]), ("c", 3)]
    assert data == {"a": 1, "b": [2], "c": 3}


def test_a_key_that_is_not_there_is_left_to_its_default() -> None:
    assert rename_key({"a": 1}, "b", "d") == {"a": 1}


def test_a_new_key_in_an_old_document_is_unknown() -> None:
    with pytest.raises(ValueError, match="unknown key d"):
        rename_key({"b": 1, "d": 2}, "b", "d")
