import sys
from pathlib import Path

import pytest

from fxgrow.errors import DataError, ModelError
from fxgrow.optional import require


def test_an_installed_package_is_imported() -> None:
    assert require("json.decoder", extra="data", error=DataError) is sys.modules["json.decoder"]


@pytest.mark.parametrize("module", ["fxgrow_no_such_package", "fxgrow_no_such_package.inner"])
def test_a_missing_package_names_its_extra(module: str) -> None:
    with pytest.raises(ModelError, match=r"'fxgrow_no_such_package'.*'fxgrow\[zoo\]'") as caught:
        require(module, extra="zoo", error=ModelError)
    assert caught.value.code == "missing-extra"


def test_a_broken_package_says_itself_what_it_misses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_extra.py").write_text("import fxgrow_no_such_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="fxgrow_no_such_package"):
        require("broken_extra", extra="zoo", error=ModelError)
