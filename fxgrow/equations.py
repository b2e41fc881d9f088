"""Equations of ``torch.einsum`` in one canonical form, whatever they were written like."""

import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

Letters = tuple[str, ...]
"""The names of the dimensions of one tensor; those under an ellipsis are ``...0``, ``...1`` from
the last one on."""


@dataclass(frozen=True)
class Equation:
    """What ``torch.einsum`` is asked for.

    Args:
        operands: the dimensions of each operand.
        output: those of the result.

    Example:
        >>> parse_equation("bi, oi", (2, 2)).output
        ('b', 'o')
    """

    operands: tuple[Letters, ...]
    output: Letters

    def text(self) -> str:
        """The equation with plain letters: no ellipsis, no implicit output, no spaces."""
        names: dict[str, str] = {}
        free = iter(string.ascii_letters)
        terms = []
        for letters in (*self.operands, self.output):
            for letter in letters:
                if letter not in names:
                    names[letter] = next(free)
            terms.append("".join(names[letter] for letter in letters))
        return f"{','.join(terms[:-1])}->{terms[-1]}"


@lru_cache(maxsize=1 << 10)
def parse_equation(equation: str, ranks: tuple[int, ...]) -> Equation:
    """Read an equation as torch does.

    Args:
        equation: letters, commas, perhaps an arrow, ellipses and spaces.
        ranks: the number of dimensions of each operand, which says what an ellipsis stands for.

    Returns:
        The dimensions of every operand and of the result.

    Raises:
        ValueError: if the equation does not fit the operands.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise ValueError(f"{equation!r} has {len(terms)} terms for {len(ranks)} operands")
    operands = []
    for term, rank in zip(terms, ranks, strict=True):
        operands.append(_letters(term, rank - len(term.replace("...", ""))))
    elided = max((len(_elided(letters)) for letters in operands), default=0)
    if arrow:
        return Equation(tuple(operands), _letters(right, elided))
    return Equation(tuple(operands), _implicit_output(operands, elided))


def _letters(term: str, elided: int) -> Letters:
    """The dimensions of one term, whose ellipsis stands for ``elided`` of them."""
    before, ellipsis, after = term.partition("...")
    if elided < 0 or (elided and not ellipsis and "..." in term):
        raise ValueError(f"{term!r} has more letters than its operand has dimensions")
    hidden = _ellipsis(elided) if ellipsis else ()
    return (*before, *hidden, *after)


def _ellipsis(count: int) -> Letters:
    """Names of dimensions under an ellipsis: counted from the last, so that they align there."""
    return tuple(f"...{number}" for number in reversed(range(count)))


def _elided(letters: Letters) -> list[str]:
    return [letter for letter in letters if letter.startswith("...")]


def _implicit_output(operands: Sequence[Letters], elided: int) -> Letters:
    """Without an arrow: the ellipsis, then the letters that occur once, in alphabetical order."""
    counts: Counter[str] = Counter()
    for letters in operands:
        counts.update(letters)
    once = [letter for letter, count in counts.items() if count == 1 and letter.isalpha()]
    return (*_ellipsis(elided), *sorted(once))


Operands = list[Any]
"""The operands of a product, in order."""


def einsum_arguments(args: Sequence[Any]) -> tuple[str, Operands] | None:
    """The equation and operands of a call of ``torch.einsum``, in any of its spellings.

    Args:
        args: its positional arguments: an equation and operands, an equation and a list of
            operands, or operands with lists of numbers between them.

    Returns:
        Both; None if the arguments are none of these.
    """
    if not args:
        return None
    if isinstance(args[0], str):
        operands = list(args[1:])
        is_list = len(operands) == 1 and isinstance(operands[0], (list, tuple))
        return args[0], list(operands[0]) if is_list else operands
    terms = [_sublist_term(letters) for letters in args[1::2]]
    if None in terms:
        return None
    operands = list(args[: 2 * (len(args) // 2) : 2])
    left = ",".join(str(term) for term in terms)
    if len(args) % 2 == 0:
        return left, operands
    output = _sublist_term(args[-1])
    return None if output is None else (f"{left}->{output}", operands)


def _sublist_term(letters: Any) -> str | None:
    """``[0, ..., 1]`` as ``A...B``, as torch reads it."""
    if not isinstance(letters, (list, tuple)):
        return None
    alphabet = string.ascii_uppercase + string.ascii_lowercase
    names = []
    for letter in letters:
        if letter is ...:
            names.append("...")
        elif isinstance(letter, int) and 0 <= letter < len(alphabet):
            names.append(alphabet[letter])
        else:
            return None
    return "".join(names)


def tensordot_equation(left: int, right: int, dims: Any, other_dims: Any = None) -> Equation:
    """What ``torch.tensordot`` does with tensors of these ranks.

    Args:
        left: the number of dimensions of the first tensor.
        right: that of the second.
        dims: how many dimensions are summed over, or those of both, or those of the first.
        other_dims: those of the second, if ``dims`` are of the first.

    Returns:
        The equation, whose free dimensions come in order.
    """
    if isinstance(dims, int):
        pairs = [(left - dims + number, number) for number in range(dims)]
    else:
        both = dims if other_dims is None else (dims, other_dims)
        pairs = list(zip(both[0], both[1], strict=True))
    of_left = [f"l{dim}" for dim in range(left)]
    of_right = [f"r{dim}" for dim in range(right)]
    for dim, other in pairs:
        of_right[other] = of_left[dim]
    shared = set(of_left) & set(of_right)
    free = [letter for letter in (*of_left, *of_right) if letter not in shared]
    return Equation((tuple(of_left), tuple(of_right)), tuple(free))


def contraction_order(
    terms: Sequence[Letters], is_weight: Sequence[bool], output: Letters
) -> Iterator[tuple[int, int, Letters]]:
    """In which order to multiply operands in pairs, so that weights meet activations.

    Between themselves, weights are no reader and writer of an activation's neurons.

    Args:
        terms: the letters of each operand.
        is_weight: for each operand whether it is made of parameters alone.
        output: the letters of the result.

    Yields:
        The numbers of two operands and the letters of their product, which is the operand after
        all those that there are so far.
    """
    count = len(terms)
    left = dict(enumerate(terms))
    weights = {number for number, weight in enumerate(is_weight) if weight}
    while len(left) > 1:
        one, other = _best_pair(left, weights, output)
        joined = tuple(dict.fromkeys((*left.pop(one), *left.pop(other))))
        number = 2 * count - 2 - len(left)
        needed = set(output).union(*left.values())
        left[number] = tuple(letter for letter in joined if letter in needed)
        yield one, other, left[number]


def _best_pair(left: Mapping[int, Letters], weights: Set[int], output: Letters) -> tuple[int, int]:
    """A weight and the one activation whose dimensions it sums over, else any two.

    Of a weight that sums over dimensions of several activations, these meet first.
    """
    activations = [number for number in left if number not in weights]
    for weight in sorted(left.keys() & weights):
        summed = set(left[weight]).difference(output)
        met = [number for number in activations if summed & set(left[number])]
        if len(met) == 1:
            return met[0], weight
    first, second, *_ = (*activations, *sorted(left.keys() & weights))
    return first, second


def repeated(letters: Letters) -> Iterator[str]:
    """The letters that occur more than once in one term: a diagonal is taken over them."""
    for letter, count in Counter(letters).items():
        if count > 1:
            yield letter
