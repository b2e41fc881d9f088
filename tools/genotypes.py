"""Writes the genotypes that fxgrow knows to ``specs/architectures/genotypes``: python -m tools.genotypes"""

from pathlib import Path

from fxgrow.cells import GENOTYPES, genotype_text

DIRECTORY = Path(__file__).parents[1] / "specs" / "architectures" / "genotypes"


def main() -> None:
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for name, genotype in GENOTYPES.items():
        (DIRECTORY / f"{name}.json").write_text(genotype_text(genotype), encoding="utf-8")


if __name__ == "__main__":
    main()
