from pathlib import Path

from fxgrow.cells import GENOTYPES, genotype_text
from tests.cli.conftest import Fxgrow


def test_a_known_genotype_and_one_from_a_file(fxgrow: Fxgrow, tmp_path: Path) -> None:
    (tmp_path / "found.json").write_text(genotype_text(GENOTYPES["DARTS_V2"]))
    for genotype, name in (("DARTS_V2", "known.dot"), (tmp_path / "found.json", "found.dot")):
        done = fxgrow("cells", "draw", genotype, "--out", tmp_path / name)
        assert done.exit_code == 0, done.output
        assert done.stdout == f"{tmp_path / name}\n"
    text = (tmp_path / "known.dot").read_text()
    assert text == (tmp_path / "found.dot").read_text()
    assert text.count("max_pool_3x3") == 5
    assert text.count("dil_conv_3x3") == 1


def test_wrong_input_is_one_sentence(fxgrow: Fxgrow, tmp_path: Path) -> None:
    for genotype, name, code in (
        ("DARTS", "a.svg", "unknown-genotype"),
        ("DARTS_V1", "a.bmp", "picture-format"),
    ):
        done = fxgrow("cells", "draw", genotype, "--out", tmp_path / name)
        assert done.exit_code == 2
        assert done.stderr.endswith(f"[{code}]\n")
        assert done.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())
