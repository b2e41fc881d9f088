"""Put every candidate into the graph at once (DESIGN section 3; Wu et al. 2020, Eqs. 3 and 4)."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from fxgrow.capture import Captured
from fxgrow.coupling import Coupling
from fxgrow.errors import InternalError, Refusal
from fxgrow.rewrite.candidates import Candidates, Entry
from fxgrow.rewrite.context import INSERTED, RewriteContext
from fxgrow.rewrite.frozen import freeze_norms
from fxgrow.rewrite.lanes import Lanes
from fxgrow.rewrite.rewriter import Provenance, Rewriter
from fxgrow.rewrite.rules import EPS, REWRITE_RULES, RewriteRule


@dataclass(frozen=True)
class OverGrown:
    """The over-grown graph and its candidates. At eps = 0 it computes what the old graph computes.

    ``entries``: what emission adds to which parameter. ``refusals``: by number of the width, why it has no candidates;
    the refusal ``no-lane`` is of new neurons alone, its split candidates take part. ``edits``: how many nodes each
    rewrite rule inserted.
    """

    graph_module: fx.GraphModule
    candidates: Candidates
    entries: tuple[Entry, ...]
    refusals: dict[int, Refusal]
    edits: Counter[str]


def overgrow(
    captured: Captured,
    coupling: Coupling,
    split: Iterable[int],
    new: Mapping[int, int],
    generator: torch.Generator,
    layers: Iterable[int] = (),
    *,
    halves: bool = True,
) -> OverGrown:
    """Insert split candidates for every neuron of the widths ``split`` and ``new[width]`` new neurons per width.

    Widths are given by number; ``layers`` are the hidden ones of candidate layers; ``halves``: see ``Candidates``. The
    base parameters are shared with ``captured`` and get no gradient. A width that no rule can rewrite is left out and
    its refusal reported.
    """
    untensored = _untensored(captured.graph_module, captured.example_inputs)
    refusals = _check(captured, coupling, untensored)
    able = {n for n, width in enumerate(coupling.widths) if width.growable} - refusals.keys()
    kept_split = {w: coupling.widths[w].size for w in split if w in able}
    replayed = coupling.replay.singly if coupling.replay else frozenset()
    shuffled = Refusal(
        "no-lane", "new neurons alone are dealt out in another order than beside the old ones", ()
    )
    refusals |= dict.fromkeys(replayed & able, shuffled)
    while True:
        kept_new = {w: count for w, count in new.items() if w in able - refusals.keys() and count}
        like = next(p for p in captured.graph_module.parameters() if p.is_floating_point())
        candidates = Candidates(kept_split, kept_new, like, frozenset(layers), halves=halves)
        grown = _build(captured, coupling, candidates, refusals, untensored, generator)
        failed = _first_failure(grown.graph_module, captured.example_inputs)
        if failed is None:
            return grown
        node, message = failed
        blamed = _lanes_at(node, coupling) & kept_new.keys()
        if not blamed:
            raise InternalError(
                f"the over-grown graph does not run at {node.format_node()}: {message}"
            )
        refusal = Refusal("no-lane", f"new neurons cannot pass alone: {message}", (node.name,))
        refusals |= dict.fromkeys(blamed, refusal)


def _lanes_at(node: fx.Node, coupling: Coupling) -> set[int]:
    """The widths whose new neurons a node carries, or else reads."""
    numbers = {width.name: number for number, width in enumerate(coupling.widths)}
    found: list[set[int]] = []
    for nodes in ([node], node.all_input_nodes):
        marks = [one.meta.get("fxgrow") for one in nodes]
        found.append({numbers[mark.width] for mark in marks if mark and mark.width in numbers})
    return found[0] or found[1]


def _rule(walk: RewriteContext, node: fx.Node) -> RewriteRule:
    return next(rule for rule in REWRITE_RULES if rule.match(walk, node))


def _check(
    captured: Captured, coupling: Coupling, untensored: frozenset[str]
) -> dict[int, Refusal]:
    """The widths that some node refuses to pass, and those that no node of the graph touches (inside opaque parts)."""
    none, nowhere = Candidates({}, {}, torch.empty(0)), Rewriter(nn.Module())
    walk = RewriteContext(
        captured.model,
        captured.graph_module,
        coupling,
        none,
        nowhere,
        torch.Generator(),
        untensored,
    )
    found: dict[int, Refusal] = {}
    seen: set[int] = set()
    for node in captured.graph_module.graph.nodes:
        touched = walk.touched(node)
        seen |= touched
        refusal = _rule(walk, node).check(walk, node)
        for width in touched if refusal else ():
            found.setdefault(width, refusal)  # type: ignore[arg-type]
    hidden = Refusal("no-rewrite", "no node of the graph reads or writes it")
    found |= {width: hidden for width in range(len(coupling.widths)) if width not in seen}
    return {width: refusal for width, refusal in found.items() if coupling.widths[width].growable}


def _build(
    captured: Captured,
    coupling: Coupling,
    candidates: Candidates,
    refusals: dict[int, Refusal],
    untensored: frozenset[str],
    generator: torch.Generator,
) -> OverGrown:
    old = captured.graph_module
    root = _root(old, candidates)
    rewriter = Rewriter(root)
    rewriter.graph.set_codegen(
        old.graph._codegen
    )  # how arguments and results are packed, in exported graphs
    walk = RewriteContext(
        captured.model, old, coupling, candidates, rewriter, generator, untensored
    )
    for node in old.graph.nodes:
        if node.op != "placeholder" and not walk.eps_nodes:
            walk.eps_nodes = [rewriter.get_attr(target, Provenance("layer")) for target in EPS]
        walk.env[node] = (
            Lanes(rewriter.copy(node, lambda n: walk.env[n].plus))
            if node.op == "output"
            else _rule(walk, node).rewrite(walk, node)
        )
    if candidates.split or candidates.new:
        freeze_norms(rewriter.graph, root, INSERTED)
    graph_module = fx.GraphModule(root, rewriter.graph, f"OverGrown{type(old).__name__}").eval()
    graph_module.graph.eliminate_dead_code(rewriter.has_effect)
    graph_module.graph.lint()
    graph_module.recompile()
    return OverGrown(graph_module, candidates, tuple(walk.entries), refusals, rewriter.edits)


def _root(old: fx.GraphModule, candidates: Candidates) -> nn.Module:
    """A root that holds the old modules (shared) beside those that will be inserted."""
    root = nn.Module()
    for name, child in old.named_children():
        root.add_module(name, child)
    for name, parameter in old.named_parameters(recurse=False):
        root.register_parameter(name, parameter)
    for name, buffer in old.named_buffers(recurse=False):
        root.register_buffer(name, buffer)
    root.add_module(INSERTED, nn.Module())
    root.add_module(EPS[0].partition(".")[0], candidates)
    return root


class _Watch(fx.Interpreter):
    """Runs a graph and remembers which nodes give no tensors, and where it was."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.untensored: set[str] = set()
        self.at: fx.Node | None = None

    def run_node(self, n: fx.Node) -> Any:
        self.at = n
        result = super().run_node(n)
        if not any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            self.untensored.add(n.name)
        return result


def _untensored(module: fx.GraphModule, inputs: tuple[Any, ...]) -> frozenset[str]:
    watch = _Watch(module)
    with torch.no_grad():
        watch.run(*inputs)
    return frozenset(watch.untensored)


def _first_failure(module: fx.GraphModule, inputs: tuple[Any, ...]) -> tuple[fx.Node, str] | None:
    """Where the graph fails on the example inputs, if it does."""
    watch = _Watch(module)
    try:
        with torch.no_grad():
            watch.run(*inputs)
    except Exception as error:  # whatever an operator of the user's graph says about a lane's shape
        if watch.at is None:
            raise
        return watch.at, str(error).splitlines()[0]
    return None
