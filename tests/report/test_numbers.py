import pytest

from fxgrow.report import count_text, number_text, percent_text, ratio_text, seconds_text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1 k"),
        (11_181_642, "11.2 M"),
        (999_400, "999 k"),
        (37 * 10**12, "37 T"),
    ],
)
def test_count(value: int, words: str) -> None:
    assert count_text(value) == words


def test_the_others() -> None:
    assert (number_text(0.123456), number_text(None), number_text(12345.0)) == (
        "0.123",
        "-",
        "1.23e+04",
    )
    assert (ratio_text(2, 3), ratio_text(0, 3)) == ("x1.50", "-")
    assert percent_text(0.97222) == "97.22 %"
    assert (seconds_text(0.0123), seconds_text(9.4), seconds_text(59.6), seconds_text(61)) == (
        "0.012 s",
        "9.4 s",
        "60 s",
        "1 min 1 s",
    )
