"""Damaged genotypes, as JSON and as the literature writes them."""

import json
import random
from pathlib import Path
from typing import NamedTuple

from fxgrow.cells import genotype_text, read_genotype
from fxgrow.cells.genotype import GENOTYPE_DOCUMENT, Genotype
from fxgrow.cells.genotypes.published import GENOTYPES
from fxgrow.cells.genotypes.text_format import from_text, to_text
from fxgrow.errors import SpecError
from tools.fuzzing.damage import Damaged, bytes_damaged, values_damaged
from tools.fuzzing.verdicts import Verdict, verdict_of

FILE, LINE = "genotype.json", "genotype.txt"
INSERTED = (
    "__import__('os').mkdir('CANARY')", "(" * 500, "[" * 5000, "-" * 5000, "lambda: 0", "9" * 5000, "range(10**18)",
    "range(0, 10**9, -1)", "*[1]", "**{}", "f'{1}'", "10**10**10", "'a' 'b'", "True", "...", "\0", "\n", "#", "x.y",
)  # fmt: skip


class Written(NamedTuple):
    """A genotype in both forms."""

    json: str
    line: str


def bases(_: int) -> tuple[Written, ...]:
    """The genotypes of the literature."""
    return tuple(
        Written(genotype_text(genotype), to_text(genotype)) for genotype in GENOTYPES.values()
    )


def mutate(base: Written, rng: random.Random) -> Damaged:
    """Values or bytes of one form changed."""
    kind = rng.choice(("values", "bytes", "line", "line bytes"))
    if kind == "values":
        changed, done = values_damaged(json.loads(base.json), rng)
        return Damaged({FILE: json.dumps(changed).encode()}, done)
    if kind == "bytes":
        data, what = bytes_damaged(base.json.encode(), rng)
        return Damaged({FILE: data}, (what,))
    if kind == "line bytes":
        data, what = bytes_damaged(base.line.encode(), rng)
        return Damaged({LINE: data}, (what,))
    start, end = sorted(rng.randrange(len(base.line)) for _ in range(2))
    end = start if rng.random() < 0.5 else end
    return Damaged(
        {LINE: (base.line[:start] + rng.choice(INSERTED) + base.line[end:]).encode()}, ("line",)
    )


def judge(made: Damaged, directory: Path) -> Verdict:
    """Whether a genotype is read, and written as it was read, or refused."""
    if LINE in made.files:
        # A text is given by the caller and has no place.
        found = verdict_of(
            lambda: _again(from_text(made.files[LINE].decode(errors="replace"))), SpecError
        )
        return Verdict("refused", found.what) if found.outcome == "no path" else found
    path = directory / FILE
    path.write_bytes(made.files[FILE])
    return verdict_of(lambda: _again(read_genotype(path)), SpecError)


def _again(genotype: Genotype) -> bool:
    return GENOTYPE_DOCUMENT.read(genotype_text(genotype)) == genotype
