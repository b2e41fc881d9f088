import contextlib
import json
from collections import namedtuple
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxgrow.cells import GENOTYPES, Genotype, from_text, from_tuples, to_text, to_tuples
from fxgrow.cells.genotype import GENOTYPE_DOCUMENT
from fxgrow.cells.genotypes.text_format import TEXT_LIMIT
from fxgrow.errors import SpecError
from tests.cells.sample_genotypes import PAIRED

# As searches print it.
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
    "normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], "
    "reduce_concat=range(2, 6))"
)
ONE = "[('skip_connect', 0), ('skip_connect', 1)]"


@given(PAIRED)
def test_there_and_back(genotype: Genotype) -> None:
    assert from_tuples(to_tuples(genotype)) == genotype
    assert from_text(to_text(genotype)) == genotype


def test_a_text_as_searches_print_it() -> None:
    assert from_text(DARTS_V2) == GENOTYPES["DARTS_V2"]
    assert to_text(GENOTYPES["DARTS_V2"]) == DARTS_V2.replace("range(2, 6)", "[2, 3, 4, 5]")


def test_any_named_tuple_and_positions() -> None:
    theirs = namedtuple("theirs", "normal normal_concat reduce reduce_concat")
    pairs = [("skip_connect", 0), ("sep_conv_3x3", 1)]
    ours = from_tuples(theirs(pairs, range(2, 3), tuple(pairs), [2]))
    assert ours == from_text(f"X({pairs}, [2], {pairs}, (2,))")
    assert [edge.operation for edge in ours.normal.nodes[0]] == ["skip_connect", "sep_conv_3x3"]


def test_three_edges_cannot_be_pairs() -> None:
    data = GENOTYPES["DARTS_V2"].model_dump(mode="json")
    data["reduce"]["nodes"][1].append({"operation": "skip_connect", "source": 0})

    with pytest.raises(SpecError) as caught:
        to_tuples(GENOTYPE_DOCUMENT.read(json.dumps(data)))
    assert (caught.value.code, caught.value.path) == ("bad-value", "reduce.nodes.1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no genotype"),
        ("Genotype(", "no genotype"),
        ("[1, 2]", "no call"),
        (f"Genotype({ONE}, [2], {ONE})", "missing 1 required"),
        (f"Genotype({ONE}, [2], {ONE}, [2], more=[1])", "unexpected keyword"),
        ("Genotype(**{})", "cannot be read"),
        (f"Genotype({ONE}, [2], {ONE}, exit())", "malformed node"),
        (f"Genotype({ONE}, range(10**9), {ONE}, [2])", "malformed node"),
        (f"Genotype({ONE}, range(2, 1000000000000), {ONE}, [2])", "less than 64"),
        (f"Genotype({ONE}, range(2, 3, 0), {ONE}, [2])", "must not be zero"),
        (f"Genotype({{1, 2}}, [2], {ONE}, [2])", "a set is no list"),
        (f"Genotype('ab', [2], {ONE}, [2])", "a str is no list"),
        (f"Genotype([1], [2], {ONE}, [2])", "no genotype of pairs"),
        (f"Genotype([('skip_connect', 0)], [2], {ONE}, [2])", "not two for every node"),
        (f"Genotype({ONE}, [3], {ONE}, [2])", "normal: the output needs state 3 of 3"),
        (f"Genotype({ONE.replace('1', '2')}, [2], {ONE}, [2])", "normal: state 2 needs state 2"),
        (
            f"Genotype({ONE}, [2], {ONE.replace('skip', 'ship')}, [2])",
            "reduce.nodes.0.0.operation: Input should be",
        ),
        (f"Genotype({ONE.replace('1', '1.0')}, [2], {ONE}, [2])", "valid integer"),
        ("(" * 1000, "no genotype"),
        ("-" * 60_000 + "1", "no genotype|no call"),
        ("Genotype(\0)", "no genotype"),
    ],
)
def test_what_is_no_genotype(text: str, words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        from_text(text)
    assert caught.value.code == "bad-value"


def test_a_long_text_is_not_parsed() -> None:
    with pytest.raises(SpecError) as caught:
        from_text("1" * (TEXT_LIMIT + 1))
    assert caught.value.code == "too-large"


@pytest.mark.parametrize("thing", [None, 3, "text", [], object(), GENOTYPES["DARTS_V2"]])
def test_things_that_are_no_tuples(thing: Any) -> None:
    with pytest.raises(SpecError) as caught:
        from_tuples(thing)
    assert caught.value.code == "bad-value"


@given(st.text("Genotype(rdc_nal=[]'\"0123,) *{}:.-\\\n", max_size=60))
def test_no_text_raises_anything_but_spec_error(text: str) -> None:
    with contextlib.suppress(SpecError):
        from_text(text)
