"""The one place where fx graphs are written: a new graph beside the old one, edits counted."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn


@dataclass(frozen=True)
class Provenance:
    """Why a node exists.

    Args:
        rule: the rule that inserted it.
        width: the name of the width that it was inserted for ("" for none).
        lane: the lane that it is in ("" for none).
    """

    rule: str
    width: str = ""
    lane: str = ""


@dataclass
class Rewriter:
    """Builds ``graph``.

    Args:
        root: a copy of the old root that holds the modules of both graphs.
        graph: the new graph.
        edits: how many nodes each rule inserted.
        effects: copies of nodes whose value nobody uses, so that they are there for what they do
            (in place).
    """

    root: nn.Module
    graph: fx.Graph = field(default_factory=fx.Graph)
    edits: Counter[str] = field(default_factory=Counter)
    effects: set[fx.Node] = field(default_factory=set)

    def has_effect(self, node: fx.Node) -> bool:
        """Whether a node must stay even if nobody uses its value."""
        return node.op in ("placeholder", "output") or node in self.effects

    def copy(
        self, node: fx.Node, mapping: Callable[[fx.Node], Any], provenance: Provenance | None = None
    ) -> fx.Node:
        """Copy a node of the old graph.

        Args:
            node: the old node.
            mapping: the new node for each of its arguments.
            provenance: if given, the copy counts as inserted.

        Returns:
            The copy.
        """
        new = self.graph.node_copy(node, mapping)
        if not node.users:
            self.effects.add(new)
        return self._mark(new, provenance) if provenance else new

    def call_module(
        self, target: str, args: tuple[Any, ...], name: str, provenance: Provenance
    ) -> fx.Node:
        """Insert a call of the module at ``target``, as a node named like ``name``."""
        new = self.graph.create_node("call_module", target, args, {}, name=name)
        return self._mark(new, provenance)

    def call_function(
        self, function: Callable[..., Any], args: tuple[Any, ...], provenance: Provenance
    ) -> fx.Node:
        """Insert a call of a function."""
        return self._mark(self.graph.call_function(function, args), provenance)

    def get_attr(self, target: str, provenance: Provenance) -> fx.Node:
        """Insert a read of the tensor at ``target``."""
        return self._mark(self.graph.create_node("get_attr", target, (), {}), provenance)

    def _mark(self, node: fx.Node, provenance: Provenance) -> fx.Node:
        node.meta["fxgrow"] = provenance
        self.edits[provenance.rule] += 1
        return node
