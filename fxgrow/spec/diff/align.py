"""Which nodes, modules and tensors of two specifications are the same, whatever they are called.

Every stage gives the nodes keys and pairs nodes of equal keys, the k-th with the k-th. The keys go
from strict to loose: everything that leads to a node and that follows from it; one of the two; the
module that it calls; neighbors that are paired already, until no more pairs are found. What is left
is paired by the longest common blocks of the execution order, and at last by name.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from fxgrow.spec.diff.graph_view import LABELS, GraphView, Label, typed_label
from fxgrow.spec.models import ArchitectureSpec, NodeSpec


@dataclass(frozen=True)
class Alignment:
    """What in one specification is what in another: old name -> new name, one to one.

    Args:
        nodes: The nodes that both have.
        modules: The modules that both have.
        tensors: The parameters and buffers that both have.
    """

    nodes: Mapping[str, str]
    modules: Mapping[str, str]
    tensors: Mapping[str, str]

    def inverted(self) -> "Alignment":
        """The alignment from the second specification to the first."""
        return Alignment(_inverse(self.nodes), _inverse(self.modules), _inverse(self.tensors))


def _inverse(names: Mapping[str, str]) -> dict[str, str]:
    return {new: old for old, new in names.items()}


def align(a: ArchitectureSpec, b: ArchitectureSpec) -> Alignment:
    """Find what two specifications have in common.

    Args:
        a: The first specification.
        b: The second.

    Returns:
        The alignment; ``align(b, a)`` is its inverse.
    """
    # The stages do not treat both sides alike, so one order is chosen for both directions.
    if order_key(a) > order_key(b):
        return align(b, a).inverted()
    pairs = _Pairs(GraphView(a), GraphView(b))
    stages = (
        _match_surroundings,
        _match_neighbors,
        _match_blocks,
        _match_neighbors,
        _match_names,
        _match_neighbors,
    )
    for stage in stages:
        stage(pairs)
    old_modules = [module.name for module in a.modules]
    new_modules = [module.name for module in b.modules]
    modules = _with_same_names(pairs.modules, old_modules, new_modules)
    return Alignment(dict(pairs.nodes.new_of), modules, _tensors(a, b, modules, pairs.tensors))


def order_key(spec: ArchitectureSpec) -> tuple[str, ...]:
    """Decides which of two specifications goes first where an algorithm needs an order."""
    nodes = [node.name for node in spec.nodes]
    modules = [module.name for module in spec.modules]
    return (spec.fingerprint, *nodes, *modules)


class _Matching:
    """Names of one kind of thing, paired one to one."""

    def __init__(self) -> None:
        self.new_of: dict[str, str] = {}
        self.old_of: dict[str, str] = {}

    def allows(self, old: str, new: str) -> bool:
        """Whether the two are paired with each other, or both are free."""
        return self.new_of.get(old, new) == new and self.old_of.get(new, old) == old

    def add(self, old: str, new: str) -> None:
        # Both directions, so that either name is looked up in constant time.
        self.new_of[old] = new
        self.old_of[new] = old


NodeKeys = Mapping[str, Hashable]
"""Name of a node -> what it is compared by."""


class _Pairs:
    """The nodes paired so far, and with them the modules and tensors that they use."""

    def __init__(self, a: GraphView, b: GraphView) -> None:
        self.a, self.b = a, b
        self.nodes, self.modules, self.tensors = _Matching(), _Matching(), _Matching()

    def add(self, old: str, new: str) -> None:
        """Pair two free nodes of the same kind, unless what they use has another partner."""
        is_free = old not in self.nodes.new_of and new not in self.nodes.old_of
        old_node, new_node = self.a.nodes[old], self.b.nodes[new]
        if not is_free or old_node.op != new_node.op:
            return
        used = self._used_by(old_node)
        if used is None:
            # The name of an input does not matter; another target is another operation.
            if old_node.op == "placeholder" or old_node.target == new_node.target:
                self.nodes.add(old, new)
        elif used.allows(old_node.target, new_node.target):
            self.nodes.add(old, new)
            used.add(old_node.target, new_node.target)

    def _used_by(self, node: NodeSpec) -> _Matching | None:
        """The kind of thing that the target of a node names; None: the operation itself."""
        if node.op == "call_module":
            return self.modules
        return self.tensors if node.op == "get_attr" else None

    def add_equal(self, old_keys: NodeKeys, new_keys: NodeKeys) -> bool:
        """Pair free nodes of equal keys; whether there were any.

        Nodes of one name go first, then the k-th of a key in the one is paired with the k-th in the
        other, in the order of the mappings.
        """
        num_before = len(self.nodes.new_of)
        for name, key in old_keys.items():
            if name in new_keys and new_keys[name] == key:
                self.add(name, name)
        old_groups = _group_by_key(old_keys, self.nodes.new_of)
        new_groups = _group_by_key(new_keys, self.nodes.old_of)
        for key, old_group in old_groups.items():
            # The longer of the two groups keeps nodes without a partner.
            for old, new in zip(old_group, new_groups.get(key, ()), strict=False):
                self.add(old, new)
        return len(self.nodes.new_of) > num_before


def _group_by_key(keys: NodeKeys, paired: Mapping[str, str]) -> dict[Hashable, list[str]]:
    groups: defaultdict[Hashable, list[str]] = defaultdict(list)
    for name, key in keys.items():
        if name not in paired:
            groups[key].append(name)
    return groups


KeyIds = defaultdict[Hashable, int]


def _key_ids() -> KeyIds:
    """Numbers for keys, equal ones for equal keys.

    A key of a node contains those of its neighbors; as numbers, keys stay small however deep the
    graph is.
    """
    ids: KeyIds = defaultdict(lambda: len(ids))
    return ids


def _upstream_keys(view: GraphView, label: Label, ids: KeyIds) -> dict[str, int]:
    """Keys of everything that leads to a node."""
    keys: dict[str, int] = {}
    # Execution order: operands have their keys before their users need them.
    for name, node in view.nodes.items():
        operand_keys = tuple(keys[operand] for operand in view.operands[name])
        keys[name] = ids[label(view, node), operand_keys]
    return keys


def _downstream_keys(view: GraphView, label: Label, ids: KeyIds) -> dict[str, int]:
    """Keys of everything that follows from a node."""
    keys: dict[str, int] = {}
    # Execution order, backward: users come before what they read.
    for name, node in reversed(view.nodes.items()):
        user_keys = sorted((keys[user], position) for user, position in view.users[name])
        keys[name] = ids[label(view, node), tuple(user_keys)]
    return keys


def _match_surroundings(pairs: _Pairs) -> None:
    """Pair by what leads to a node and what follows from it; by either; by what is paired."""
    for label in LABELS:
        # Both graphs share the numbers, so equal numbers are equal keys.
        upstream_ids, downstream_ids = _key_ids(), _key_ids()
        old_upstream = _upstream_keys(pairs.a, label, upstream_ids)
        new_upstream = _upstream_keys(pairs.b, label, upstream_ids)
        old_downstream = _downstream_keys(pairs.a, label, downstream_ids)
        new_downstream = _downstream_keys(pairs.b, label, downstream_ids)
        old_both = {name: (key, old_downstream[name]) for name, key in old_upstream.items()}
        new_both = {name: (key, new_downstream[name]) for name, key in new_upstream.items()}
        pairs.add_equal(old_both, new_both)
        pairs.add_equal(old_upstream, new_upstream)
        pairs.add_equal(old_downstream, new_downstream)
        pairs.add_equal(_call_keys(pairs.a), _call_keys(pairs.b))
        _match_neighbors(pairs, (label,))


def _call_keys(view: GraphView) -> NodeKeys:
    """Keys of the nodes that call a module: its name, its type, and how often it is called."""
    num_calls: Counter[str] = Counter()
    for node in view.nodes.values():
        if view.called(node) is not None:
            num_calls[node.target] += 1
    keys: dict[str, Hashable] = {}
    for name, node in view.nodes.items():
        module = view.called(node)
        if module is not None:
            keys[name] = (node.target, module.type, num_calls[node.target])
    return keys


Neighbors = Callable[[GraphView, str], Iterable[tuple[str, int]]]
"""The neighbors of a node, each with the position at which it is used, or uses the node."""


def _operands(view: GraphView, name: str) -> Iterable[tuple[str, int]]:
    return [(operand, position) for position, operand in enumerate(view.operands[name])]


def _users(view: GraphView, name: str) -> Iterable[tuple[str, int]]:
    return view.users[name]


def _match_neighbors(pairs: _Pairs, labels: Sequence[Label] = LABELS) -> None:
    """Pair by operands, or users, that are all paired already, until no more pairs are found."""
    has_progressed = True
    while has_progressed:
        has_progressed = _match_neighbors_once(pairs, labels)


def _match_neighbors_once(pairs: _Pairs, labels: Sequence[Label]) -> bool:
    """Pair by the strictest label that gives any pair; whether there is one.

    New pairs may be neighbors of others, so the strictest label is tried again after every success.
    """
    for label in labels:
        for neighbors in (_operands, _users):
            # A pair goes by its new name on both sides.
            old_names = pairs.nodes.new_of
            new_names = {name: name for name in pairs.nodes.old_of}
            old_keys = _neighbor_keys(pairs.a, neighbors, label, old_names)
            new_keys = _neighbor_keys(pairs.b, neighbors, label, new_names)
            if pairs.add_equal(old_keys, new_keys):
                return True
    return False


def _neighbor_keys(
    view: GraphView, neighbors: Neighbors, label: Label, pair_names: Mapping[str, str]
) -> NodeKeys:
    """Keys of the free nodes that have neighbors which are all paired: their label and those."""
    keys: dict[str, Hashable] = {}
    for name, node in view.nodes.items():
        if name in pair_names:
            continue
        paired_neighbors = _all_paired(neighbors(view, name), pair_names)
        if paired_neighbors:
            keys[name] = (label(view, node), paired_neighbors)
    return keys


def _all_paired(
    neighbors: Iterable[tuple[str, int]], pair_names: Mapping[str, str]
) -> tuple[tuple[str, int], ...]:
    """The neighbors by the names of their pairs, sorted; nothing if one of them has no pair."""
    paired: list[tuple[str, int]] = []
    for name, position in neighbors:
        if name not in pair_names:
            return ()
        paired.append((pair_names[name], position))
    return tuple(sorted(paired))


def _match_blocks(pairs: _Pairs) -> None:
    """Pair by the longest common blocks of the execution order; pairs are equal in both."""
    olds, news = list(pairs.a.nodes), list(pairs.b.nodes)
    old_items = _block_items(pairs.a, pairs.nodes.new_of)
    new_items = _block_items(pairs.b, {name: name for name in pairs.nodes.old_of})
    matcher = SequenceMatcher(None, old_items, new_items, autojunk=False)
    for old_start, new_start, size in matcher.get_matching_blocks():
        old_block = olds[old_start : old_start + size]
        new_block = news[new_start : new_start + size]
        for old, new in zip(old_block, new_block, strict=True):
            pairs.add(old, new)


def _block_items(view: GraphView, pair_names: Mapping[str, str]) -> list[Hashable]:
    items: list[Hashable] = []
    for name, node in view.nodes.items():
        # A name is text and a label a tuple, so a pair never equals a node without one.
        items.append(pair_names.get(name) or typed_label(view, node))
    return items


def _match_names(pairs: _Pairs) -> None:
    """Pair by the name of the called module, whatever its class, and by the name of the node."""
    pairs.add_equal(_called_names(pairs.a), _called_names(pairs.b))
    pairs.add_equal({name: name for name in pairs.a.nodes}, {name: name for name in pairs.b.nodes})


def _called_names(view: GraphView) -> NodeKeys:
    return {name: node.target for name, node in view.nodes.items() if view.called(node)}


def _with_same_names(
    matching: _Matching, old_names: Iterable[str], new_names: Iterable[str]
) -> dict[str, str]:
    """The pairs of a matching, and what has the same name on both sides and no partner."""
    pairs = dict(matching.new_of)
    free = set(new_names) - set(matching.old_of)
    for name in old_names:
        if name in free and name not in matching.new_of:
            pairs[name] = name
    return pairs


def _tensors(
    a: ArchitectureSpec, b: ArchitectureSpec, modules: Mapping[str, str], matching: _Matching
) -> dict[str, str]:
    """Pair tensors that have the same name inside paired modules.

    Tensors that the graph reads itself are in ``matching`` already, which is extended.
    """
    old_names = [item.name for item in a.tensors]
    new_names = {item.name for item in b.tensors}
    for name in old_names:
        # Modules can be nested, so any part of the name may be that of a paired module.
        for module, inner_name in _splits(name):
            if module not in modules:
                continue
            partner = f"{modules[module]}.{inner_name}"
            if partner in new_names and matching.allows(name, partner):
                matching.add(name, partner)
    return _with_same_names(matching, old_names, new_names)


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """All ways to read a name as one of a module and one inside: (a.b, c), (a, b.c) for a.b.c."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        yield ".".join(parts[:end]), ".".join(parts[end:])
