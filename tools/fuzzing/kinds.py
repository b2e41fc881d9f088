"""The table of what can be damaged: a new kind of file is a row here and a file beside this one."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tools.fuzzing import genotypes, histories, masters, pictures, recipes, runs, specs
from tools.fuzzing.bases import bases as spec_bases
from tools.fuzzing.mutations import mutant
from tools.fuzzing.verdicts import Verdict


def _bare(_: Path) -> None:
    """Nothing has to be there."""


@dataclass(frozen=True)
class Kind:
    """Sound things of a seed, how one is damaged, and what becomes of it in a directory that was furnished once."""

    bases: Callable[[int], tuple[Any, ...]]
    mutate: Callable[[Any, random.Random], Any]
    judge: Callable[[Any, Path], Verdict]
    furnish: Callable[[Path], None] = _bare


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "specs": Kind(spec_bases, mutant, specs.judge),
        "recipes": Kind(recipes.bases, recipes.mutate, recipes.judge, recipes.furnish),
        "histories": Kind(histories.bases, histories.mutate, histories.judge),
        "masters": Kind(masters.bases, masters.mutate, masters.judge),
        "runs": Kind(runs.bases, runs.mutate, runs.judge, runs.furnish),
        "genotypes": Kind(genotypes.bases, genotypes.mutate, genotypes.judge),
        "pictures": Kind(pictures.bases, pictures.mutate, pictures.judge, pictures.furnish),
        "archives": Kind(
            pictures.archives,
            pictures.mutate_archive,
            pictures.judge_archive,
            pictures.furnish_archive,
        ),
    }
)
