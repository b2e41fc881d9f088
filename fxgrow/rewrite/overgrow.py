"""Put every candidate into the graph at once (Wu et al., NeurIPS 2020, Eqs. 3 and 4)."""

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from fxgrow.capture import UNTRACED_HOOK, Captured, How, Interpreter
from fxgrow.coupling import Coupling, Width
from fxgrow.errors import InternalError, Refusal
from fxgrow.modes import garbage_collection_off
from fxgrow.rewrite.candidate_scaling import CandidateScaling
from fxgrow.rewrite.candidates import Candidates
from fxgrow.rewrite.carried import refusals_of_carried
from fxgrow.rewrite.constants import written_constants
from fxgrow.rewrite.context import INSERTED, RewriteContext
from fxgrow.rewrite.entries import Entry
from fxgrow.rewrite.frozen import freeze_norms
from fxgrow.rewrite.lanes import Lanes
from fxgrow.rewrite.norms import refusals_of_hidden_norms
from fxgrow.rewrite.overgrown_layer import OvergrownLayer
from fxgrow.rewrite.product_rules import refusals_of_other_axes
from fxgrow.rewrite.rewriter import Provenance, Rewriter
from fxgrow.rewrite.rules import rule_for


@dataclass(frozen=True)
class OverGrown:
    """The over-grown graph and its candidates. At eps = 0 it computes what the old graph computes.

    Args:
        graph_module: the over-grown graph.
        candidates: the eps of all candidates.
        entries: what emission adds to which parameter.
        refusals: by number of the width, why it has no candidates. The refusal ``no-lane`` is of
            new neurons alone: its split candidates take part.
        edits: how many nodes each rewrite rule inserted.
        captured: the model that it was made of; with blank layers, if layers are candidates.
        coupling: the widths of that model.
    """

    graph_module: fx.GraphModule
    candidates: Candidates
    entries: tuple[Entry, ...]
    refusals: dict[int, Refusal]
    edits: Counter[str]
    captured: Captured
    coupling: Coupling


_EPS = ("fxgrow_candidates.split_eps", "fxgrow_candidates.new_eps")
_SCALING = "fxgrow_scaling"
_REORDERED = Refusal(
    "no-lane", "new neurons alone are dealt out in another order than beside the old ones"
)


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
    """Insert split candidates for every neuron of some widths, and new neurons into others.

    The base parameters are shared with ``captured`` and get no gradient. A width that no rule can
    rewrite is left out and its refusal reported.

    Args:
        captured: the graph.
        coupling: its neurons.
        split: numbers of the widths whose neurons are to be split.
        new: how many new neurons a width is to get, by its number.
        generator: draws the values of new neurons in the tensors that carry them.
        layers: numbers of the hidden widths of candidate layers.
        halves: see ``Candidates``.

    Returns:
        The over-grown graph, with all eps at zero.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> grown = overgrow(captured, couple(captured), [0, 1], {1: 8}, generator)
    """
    tensorless = _tensorless_nodes(captured.graph_module, captured.example_inputs)
    refusals = _refusals(captured, coupling, tensorless)
    growable = {number for number, width in enumerate(coupling.widths) if width.growable}
    able = growable - refusals.keys()
    split_counts = _split_counts(coupling, split, able)
    reordered = coupling.replay.singly if coupling.replay else frozenset()
    refusals |= dict.fromkeys(reordered & able, _REORDERED)
    like = _first_real_parameter(captured.graph_module)
    while True:
        new_counts = {}
        for width, count in new.items():
            if width in able and width not in refusals and count:
                new_counts[width] = count
        given = (split_counts, new_counts, like, frozenset(layers), frozenset(coupling.under_norms))
        candidates = Candidates(*given, halves=halves)
        grown = _build(captured, coupling, candidates, refusals, tensorless, generator)
        # Whether new neurons can pass without the old ones beside them is only seen by running.
        failure = _first_failure(grown.graph_module, captured.example_inputs)
        if failure is None:
            return grown
        node, message = failure
        at_fault = _new_widths_at(node, coupling) or _widths_read(grown.graph_module, node)
        at_fault &= new_counts.keys()
        if not at_fault:
            raise InternalError(
                f"the over-grown graph does not run at {node.format_node()}: {message}"
            )
        refusal = Refusal("no-lane", f"new neurons cannot pass alone: {message}", (node.name,))
        refusals |= dict.fromkeys(at_fault, refusal)


def _split_counts(coupling: Coupling, split: Iterable[int], able: Set[int]) -> dict[int, int]:
    """How many neurons of each width can split.

    Under norms, and where neurons begin at parameters that no halves move apart, there are rules
    for new ones only.
    """
    begun = {number for number in able if coupling.widths[number].begun}
    may_split = able - coupling.under_norms.keys() - begun
    return {width: coupling.widths[width].size for width in split if width in may_split}


def _first_real_parameter(module: nn.Module) -> Tensor:
    """A tensor with the dtype and device for eps: of a complex model, that of the real parts."""
    complex_one: Tensor | None = None
    for parameter in module.parameters():
        if parameter.is_floating_point():
            return parameter
        if complex_one is None and parameter.is_complex():
            complex_one = parameter.detach().real
    if complex_one is None:
        raise InternalError("a model without learned numbers was asked for candidates")
    return complex_one


def _new_widths_at(node: fx.Node, coupling: Coupling) -> set[int]:
    """The widths whose new neurons a node carries; if there are none, those that it reads."""
    numbers = coupling.number_of
    for nodes in ([node], node.all_input_nodes):
        widths = set()
        for marked in nodes:
            provenance = marked.meta.get("fxgrow")
            if provenance is not None and provenance.width in numbers:
                widths.add(numbers[provenance.width])
        if widths:
            return widths
    return set()


def _widths_read(graph_module: nn.Module, node: fx.Node) -> set[int]:
    """The widths whose new neurons a layer reads, of which some have no lane."""
    if node.op != "call_module":
        return set()
    layer = graph_module.get_submodule(str(node.target))
    return {slots.width for slots in layer.columns} if isinstance(layer, OvergrownLayer) else set()


def _refusals(
    captured: Captured, coupling: Coupling, tensorless: frozenset[str]
) -> dict[int, Refusal]:
    """The growable widths that some node refuses, or that no node touches (inside opaque parts)."""
    context = RewriteContext(
        captured.model,
        captured.graph_module,
        coupling,
        Candidates({}, {}, torch.empty(0)),  # nothing is rewritten yet
        Rewriter(nn.Module()),
        torch.Generator(),
        tensorless,
    )
    refusals: dict[int, Refusal] = {}
    opaque = _opaque_parts(captured)
    touched_at_all: set[int] = set()
    for node in captured.graph_module.graph.nodes:
        touched = context.touched(node)
        touched_at_all |= touched
        refusal = _hook_refusal(node) or rule_for(context, node).check(context, node)
        if refusal is not None and node.op == "call_module" and node.target in opaque:
            reason = f"{refusal.reason}: it is one call in the graph, as {opaque[node.target]}"
            refusal = Refusal(refusal.code, reason, refusal.nodes)
        if refusal is not None:
            for width in touched:
                refusals.setdefault(width, refusal)
        found = refusals_of_other_axes(context, node) | refusals_of_hidden_norms(context, node)
        found |= refusals_of_carried(context, node)
        for width, refusal in found.items():
            refusals.setdefault(width, refusal)
    for number, untouched in enumerate(coupling.widths):
        if number not in touched_at_all:
            refusals[number] = _hidden_refusal(captured, untouched)
    return {
        width: refusal for width, refusal in refusals.items() if coupling.widths[width].growable
    }


def _hidden_refusal(captured: Captured, width: Width) -> Refusal:
    """Why no node of the graph touches a width: whatever does is inside of an opaque part."""
    reason = "no node of the graph reads or writes it"
    for path, why in _opaque_parts(captured).items():
        if not path or any(site.parameter.startswith(f"{path}.") for site in width.sites):
            what = path or "the model"
            return Refusal("no-rewrite", f"{reason}: {what} is one call in it, as {why}")
    return Refusal("no-rewrite", reason)


def _opaque_parts(captured: Captured) -> dict[str, str]:
    """The paths of the parts that are one call each in the graph, and why they are."""
    return {part.module: part.why for part in captured.report if part.how is How.OPAQUE}


def _hook_refusal(node: fx.Node) -> Refusal | None:
    why = node.meta.get(UNTRACED_HOOK)
    if why is None:
        return None
    reason = f"a hook of {node.target} changes values and cannot be traced: {why}"
    return Refusal("no-rewrite", reason, (node.name,))


@garbage_collection_off()
def _build(
    captured: Captured,
    coupling: Coupling,
    candidates: Candidates,
    refusals: dict[int, Refusal],
    tensorless: frozenset[str],
    generator: torch.Generator,
) -> OverGrown:
    old = captured.graph_module
    root = _root(old, candidates)
    rewriter = Rewriter(root)
    # How arguments and results are packed, in exported graphs.
    rewriter.graph.set_codegen(old.graph._codegen)
    context = RewriteContext(
        captured.model, old, coupling, candidates, rewriter, generator, tensorless
    )
    context.written_constants = written_constants(context)
    for node in old.graph.nodes:
        # Placeholders come first in a graph, then what the graph reads of its own.
        if node.op != "placeholder" and not context.eps_nodes:
            for target in _EPS:
                context.eps_nodes.append(rewriter.get_attr(target, Provenance("layer")))
            args = tuple(context.eps_nodes)
            context.scaled_node = rewriter.call_module(
                _SCALING, args, "scaled_candidates", Provenance("layer")
            )
        if node.op == "output":
            context.env[node] = Lanes(rewriter.copy(node, lambda n: context.env[n].plus))
        else:
            context.env[node] = rule_for(context, node).rewrite(context, node)
    root.add_module(_SCALING, CandidateScaling(tuple(context.layers.values())))
    if candidates.split or candidates.new:
        freeze_norms(rewriter.graph, root, INSERTED)
    # Before there is a module, whose code would be written anew.
    rewriter.graph.eliminate_dead_code(rewriter.has_effect)
    graph_module = fx.GraphModule(root, rewriter.graph, f"OverGrown{type(old).__name__}").eval()
    graph_module.graph.lint()
    entries = tuple(context.entries)
    made_of = (captured, coupling)
    return OverGrown(graph_module, candidates, entries, refusals, rewriter.edits, *made_of)


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
    root.add_module(_EPS[0].partition(".")[0], candidates)
    return root


class _LastNode(Interpreter):
    """Runs a graph and remembers which node ran last."""

    last: fx.Node | None = None

    def run_node(self, n: fx.Node) -> Any:
        self.last = n
        return super().run_node(n)


class _Tensorless(Interpreter):
    """Runs a graph and remembers which nodes give no tensors."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.tensorless: set[str] = set()

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if not any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            self.tensorless.add(n.name)
        return result


def _tensorless_nodes(module: fx.GraphModule, inputs: tuple[Any, ...]) -> frozenset[str]:
    """The names of the nodes that give no tensors (sizes, say)."""
    recorder = _Tensorless(module)
    with torch.no_grad():
        recorder.run(*inputs)
    return frozenset(recorder.tensorless)


def _first_failure(module: fx.GraphModule, inputs: tuple[Any, ...]) -> tuple[fx.Node, str] | None:
    """Where the graph fails on the example inputs and why, if it does."""
    recorder = _LastNode(module)
    try:
        with torch.no_grad():
            recorder.run(*inputs)
    except Exception as error:  # any error that an operator of the user's graph raises for a lane
        if recorder.last is None:
            raise
        return recorder.last, str(error).splitlines()[0]
    return None
