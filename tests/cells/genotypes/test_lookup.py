from pathlib import Path

import pytest

from fxgrow.cells import GENOTYPES, find_genotype, genotype_text, to_text
from fxgrow.errors import ModelError, SpecError


def test_by_name() -> None:
    assert all(find_genotype(name) is genotype for name, genotype in GENOTYPES.items())


@pytest.mark.parametrize("form", [genotype_text, to_text])
def test_from_a_file_in_either_form(form: object, tmp_path: Path) -> None:
    (tmp_path / "found").write_text("\n " + form(GENOTYPES["DARTS_V1"]) + "\n")
    assert find_genotype(str(tmp_path / "found")) == GENOTYPES["DARTS_V1"]


def test_what_is_neither(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"'darts' is neither .* name NASNet, AmoebaNet, DARTS_V1, DARTS_V2"
    ) as caught:
        find_genotype("darts")
    assert caught.value.code == "unknown-genotype"
    for text, code in (("nothing", "bad-value"), ("{}", "missing-key")):
        (tmp_path / "wrong").write_text(text)
        with pytest.raises(SpecError) as wrong:
            find_genotype(str(tmp_path / "wrong"))
        assert wrong.value.code == code
