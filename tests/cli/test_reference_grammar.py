import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxgrow.cli.reference_grammar import Reference, parse_reference
from fxgrow.errors import ModelError


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("10", 10),
        ("-3", -3),
        ("0.5", 0.5),
        ("1e-3", 0.001),
        ("true", True),
        ("False", False),
        ("none", None),
        ("relu", "relu"),
        ("64,64", (64, 64)),
        ("a%26b", "a&b"),
    ],
)
def test_options_are_typed(word: str, value: object) -> None:
    option = parse_reference("torchvision", f"net?option={word}").options["option"]
    assert option == value
    assert type(option) is type(value)


def test_width_and_input_are_ours() -> None:
    reference = parse_reference("torchvision", "vgg19_bn?num_classes=10&width=0.125&input=3x32x32")
    assert reference == Reference(
        "torchvision", "vgg19_bn", {"num_classes": 10}, 0.125, ((3, 32, 32),)
    )
    assert parse_reference("torchvision", "raft_small?input=3x8x8,3x9x9").inputs == (
        (3, 8, 8),
        (3, 9, 9),
    )
    assert parse_reference("hf", "bert?width=2&input=12") == Reference(
        "hf", "bert", {}, 2.0, ((12,),)
    )


VALUES = (
    st.integers()
    | st.booleans()
    | st.none()
    | st.floats(allow_nan=False)
    | st.sampled_from(["relu", "a b", "x&y=z?"])
)


@given(
    st.dictionaries(st.from_regex("[a-z_]+", fullmatch=True), VALUES | st.tuples(VALUES, VALUES))
)
def test_a_label_reads_back_to_the_same_call(options: dict[str, object]) -> None:
    options = {name: value for name, value in options.items() if name not in ("width", "input")}
    reference = Reference("torchvision", "net", options)
    scheme, _, rest = reference.label.partition(":")
    assert parse_reference(scheme, rest) == reference


@pytest.mark.parametrize(
    ("rest", "sentence"),
    [
        ("", "names no model"),
        ("?a=1", "names no model"),
        ("net?a", "cannot be read"),
        ("net?a=1&&b=2", "cannot be read"),
        ("net?a=1&a=2", "one option twice"),
        ("net?width=wide", "width=wide is no factor"),
        ("net?width=0", "width=0 is no factor"),
        ("net?width=true", "width=true is no factor"),
        ("net?width=inf", "width=inf is no factor"),
        ("net?width=nan", "width=nan is no factor"),
        ("net?input=3*32", r"input=3\*32 is no shape"),
        ("net?input=3x0", "input=3x0 is no shape"),
        ("net?input=", "input= is no shape"),
    ],
)
def test_malformed_references(rest: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence) as caught:
        parse_reference("torchvision", rest)
    assert caught.value.code == "bad-reference"
