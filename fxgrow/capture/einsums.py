"""Products of many operands as products of two, which is how torch computes them as well."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import fx

from fxgrow.equations import Letters, contraction_order, einsum_arguments

_EINSUMS = (torch.einsum, torch.ops.aten.einsum.default)
_ELLIPSIS = "..."


def split_einsums(graph_module: fx.GraphModule) -> None:
    """Write every einsum of three or more operands as a chain of einsums of two.

    An activation meets one parameter after the other, so each of them is a reader or writer of its
    own. A call that is written in another way is left as it is.

    Args:
        graph_module: the graph, changed in place.
    """
    changed = False
    for node in list(graph_module.graph.nodes):
        if node.target not in _EINSUMS or node.kwargs:
            continue
        found = einsum_arguments(node.args)
        if found is None or len(found[1]) < 3:
            continue
        text, operands = found
        if all(isinstance(operand, fx.Node) for operand in operands):
            _split(graph_module.graph, node, text.replace(" ", ""), operands)
            changed = True
    if changed:
        graph_module.graph.lint()
        graph_module.recompile()


def _split(graph: fx.Graph, node: fx.Node, text: str, operands: Sequence[fx.Node]) -> None:
    """Replace one einsum; its node becomes the last product of the chain."""
    left, arrow, right = text.partition("->")
    terms = [_tokens(term) for term in left.split(",")]
    output = _tokens(right) if arrow else _implicit_output(terms)
    nodes = list(operands)
    is_weight = [one.op == "get_attr" for one in nodes]
    for one, other, term in contraction_order(terms, is_weight, output):
        if len(nodes) == 2 * len(operands) - 2:  # the last product
            node.target = torch.einsum
            node.args = (_text(terms[one], terms[other], output), nodes[one], nodes[other])
            return
        # An ellipsis comes first, as its dimensions are aligned with those of other operands.
        ordered = tuple(sorted(term, key=lambda letter: letter != _ELLIPSIS))
        equation = _text(terms[one], terms[other], ordered)
        with graph.inserting_before(node):
            made = graph.call_function(torch.einsum, (equation, nodes[one], nodes[other]))
        made.meta = {key: value for key, value in node.meta.items() if key != "val"}
        nodes.append(made)
        terms.append(ordered)


def _tokens(term: str) -> Letters:
    before, ellipsis, after = term.partition(_ELLIPSIS)
    return (*before, *([_ELLIPSIS] if ellipsis else []), *after)


def _implicit_output(terms: Sequence[Letters]) -> Letters:
    """Without an arrow: the ellipsis, then the letters that occur once, in alphabetical order."""
    counts: Counter[str] = Counter()
    for term in terms:
        counts.update(term)
    ellipsis = (_ELLIPSIS,) if counts.pop(_ELLIPSIS, 0) else ()
    return (*ellipsis, *sorted(letter for letter, count in counts.items() if count == 1))


def _text(left: Letters, right: Letters, output: Letters) -> str:
    return f"{''.join(left)},{''.join(right)}->{''.join(output)}"
