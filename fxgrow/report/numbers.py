"""Numbers as people read them."""

NO_VALUE = "-"
_MAGNITUDES = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


def count_text(value: int) -> str:
    """Three significant digits and a unit: 11.2 M."""
    for size, unit in _MAGNITUDES:
        if value >= size:
            scaled = value / size
            # From 999.5 on, three significant digits would be written as 1e+03.
            digits = f"{scaled:.3g}" if value < 999.5 * size else f"{scaled:.0f}"
            return f"{digits} {unit}"
    return str(value)


def ratio_text(before: int, after: int) -> str:
    """How many times as large: x1.31."""
    return f"x{after / before:.2f}" if before else NO_VALUE


def number_text(value: float | None, digits: int = 3) -> str:
    """Significant digits, or a dash if there is no number."""
    return NO_VALUE if value is None else f"{value:.{digits}g}"


def percent_text(share: float) -> str:
    """A share from 0 to 1 in percent: 97.22 %."""
    return f"{100 * share:.2f} %"


def seconds_text(value: float) -> str:
    """A duration: 0.012 s, 9.4 s, 60 s, 1 min 1 s."""
    minutes, seconds = divmod(value, 60)
    if minutes:
        return f"{int(minutes)} min {seconds:.0f} s"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def quantity_text(value: int, name: str) -> str:
    """A number of things: 1 layer, 2 layers."""
    plural = "" if value == 1 else "s"
    return f"{value} {name}{plural}"
