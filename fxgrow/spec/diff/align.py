"""Which nodes, modules and tensors of two specifications are the same ones, whatever they are called.

Every stage gives the nodes keys and pairs equal keys, the k-th with the k-th. The keys go from strict to loose: what
leads to a node and what follows from it; one of the two; the module it calls; operands or users that are paired
already, until nothing more is found. What is left is paired by the longest common blocks in the order of execution,
and at last by name.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from fxgrow.spec.diff.graph_view import LABELS, GraphView, Label, typed_label
from fxgrow.spec.models import ArchitectureSpec


@dataclass(frozen=True)
class Alignment:
    """What of one specification is what of another, by name; one to one."""

    nodes: Mapping[str, str]
    modules: Mapping[str, str]
    tensors: Mapping[str, str]

    def inverted(self) -> "Alignment":
        """From the second to the first."""
        return Alignment(_inverse(self.nodes), _inverse(self.modules), _inverse(self.tensors))


def _inverse(names: Mapping[str, str]) -> dict[str, str]:
    return {new: old for old, new in names.items()}


def align(a: ArchitectureSpec, b: ArchitectureSpec) -> Alignment:
    """What is the same in ``a`` and ``b``; ``align(b, a)`` is the inverse."""
    if position(a) > position(b):
        return align(b, a).inverted()
    pairs = _Pairs(GraphView(a), GraphView(b))
    for stage in (_around, _neighbours, _blocks, _neighbours, _same_name, _neighbours):
        stage(pairs)
    modules = _same_names(pairs.modules, (m.name for m in a.modules), (m.name for m in b.modules))
    return Alignment(dict(pairs.nodes.forth), modules, _tensors(a, b, modules, pairs.tensors))


def position(spec: ArchitectureSpec) -> tuple[str, ...]:
    """Which of two specifications goes first where an algorithm does not treat both alike."""
    return (
        spec.fingerprint,
        *(item.name for item in spec.nodes),
        *(item.name for item in spec.modules),
    )


class _Partners:
    """Names of one kind, one to one."""

    def __init__(self) -> None:
        self.forth: dict[str, str] = {}
        self.back: dict[str, str] = {}

    def fit(self, old: str, new: str) -> bool:
        """Whether two names are each other's, or both free."""
        return self.forth.get(old, new) == new and self.back.get(new, old) == old

    def join(self, old: str, new: str) -> None:
        self.forth[old] = new
        self.back[new] = old


NodeKeys = Mapping[str, Hashable]


class _Pairs:
    """The nodes paired so far, and with them the modules and tensors that they use."""

    def __init__(self, a: GraphView, b: GraphView) -> None:
        self.a, self.b = a, b
        self.nodes, self.modules, self.tensors = _Partners(), _Partners(), _Partners()

    def add(self, old: str, new: str) -> None:
        """Pairs two free nodes that do the same kind of thing, unless what they use has another partner."""
        x, y = self.a.nodes[old], self.b.nodes[new]
        used = {"call_module": self.modules, "get_attr": self.tensors}.get(x.op)
        alike = (
            x.op == "placeholder" or x.target == y.target
            if used is None
            else used.fit(x.target, y.target)
        )
        if x.op == y.op and alike and old not in self.nodes.forth and new not in self.nodes.back:
            self.nodes.join(old, new)
            if used is not None:
                used.join(x.target, y.target)

    def add_equal(self, olds: NodeKeys, news: NodeKeys) -> bool:
        """Pairs free nodes of equal keys, those of one name first; whether there were any."""
        before = len(self.nodes.forth)
        for name, key in olds.items():
            if name in news and news[name] == key:
                self.add(name, name)
        free_olds, free_news = _groups(olds, self.nodes.forth), _groups(news, self.nodes.back)
        for key, group in free_olds.items():
            for old, new in zip(group, free_news.get(key, ()), strict=False):
                self.add(old, new)
        return len(self.nodes.forth) > before


def _groups(keys: NodeKeys, taken: Mapping[str, str]) -> dict[Hashable, list[str]]:
    found: defaultdict[Hashable, list[str]] = defaultdict(list)
    for name, key in keys.items():
        if name not in taken:
            found[key].append(name)
    return found


NodeIds = defaultdict[Hashable, int]


def _ids() -> NodeIds:
    """A number for every key, the same one for equal keys: what is compared stays small however deep the graph."""
    ids: NodeIds = defaultdict(lambda: len(ids))
    return ids


def _above(wiring: GraphView, label: Label, ids: NodeIds) -> dict[str, int]:
    """What leads to each node."""
    found: dict[str, int] = {}
    for name, node in wiring.nodes.items():
        found[name] = ids[
            label(wiring, node), tuple(found[operand] for operand in wiring.operands[name])
        ]
    return found


def _below(wiring: GraphView, label: Label, ids: NodeIds) -> dict[str, int]:
    """What follows from each node."""
    found: dict[str, int] = {}
    for name, node in reversed(wiring.nodes.items()):
        found[name] = ids[
            label(wiring, node), tuple(sorted((found[user], at) for user, at in wiring.users[name]))
        ]
    return found


def _around(pairs: _Pairs) -> None:
    """By everything that leads to a node and everything that follows from it; by either; by what is paired already."""
    for label in LABELS:
        up, down = _ids(), _ids()
        above = [_above(wiring, label, up) for wiring in (pairs.a, pairs.b)]
        below = [_below(wiring, label, down) for wiring in (pairs.a, pairs.b)]
        both = [
            {name: (way[name], other[name]) for name in way}
            for way, other in zip(above, below, strict=True)
        ]
        for olds, news in (both, above, below):
            pairs.add_equal(olds, news)
        _called(pairs)
        _neighbours(pairs, (label,))


def _called(pairs: _Pairs) -> None:
    """By the module that a node calls, by name and type, if it is called as often on both sides."""

    def keys(wiring: GraphView) -> NodeKeys:
        called = {name: (node.target, wiring.called(node)) for name, node in wiring.nodes.items()}
        times = Counter(target for target, module in called.values() if module)
        return {
            name: (target, module.type, times[target])
            for name, (target, module) in called.items()
            if module
        }

    pairs.add_equal(keys(pairs.a), keys(pairs.b))


Neighbors = Callable[[GraphView, str], Iterable[tuple[str, int]]]
"""The nodes next to one, each with the place at which it is used, or uses it."""


def _operands(wiring: GraphView, name: str) -> Iterable[tuple[str, int]]:
    return [(operand, at) for at, operand in enumerate(wiring.operands[name])]


def _users(wiring: GraphView, name: str) -> Iterable[tuple[str, int]]:
    return wiring.users[name]


def _neighbours(pairs: _Pairs, labels: Sequence[Label] = LABELS) -> None:
    """By operands, or users, that are all paired already; strict labels first, until nothing more is found."""

    def found(near: Neighbors, label: Label) -> bool:
        own = {name: name for name in pairs.nodes.back}
        olds = _beside(pairs.a, near, label, pairs.nodes.forth, pairs.nodes.forth)
        return pairs.add_equal(olds, _beside(pairs.b, near, label, own, pairs.nodes.back))

    while any(found(near, label) for label in labels for near in (_operands, _users)):
        pass


def _beside(
    wiring: GraphView,
    near: Neighbors,
    label: Label,
    names: Mapping[str, str],
    taken: Mapping[str, str],
) -> NodeKeys:
    keys: dict[str, Hashable] = {}
    for name, node in wiring.nodes.items():
        beside = list(near(wiring, name)) if name not in taken else []
        if beside and all(other in names for other, _ in beside):
            keys[name] = (
                label(wiring, node),
                tuple(sorted((names[other], at) for other, at in beside)),
            )
    return keys


def _blocks(pairs: _Pairs) -> None:
    """By the longest common blocks of the order of execution, in which a pair is the same thing on both sides."""
    olds, news = list(pairs.a.nodes), list(pairs.b.nodes)
    x = [pairs.nodes.forth.get(name) or typed_label(pairs.a, pairs.a.nodes[name]) for name in olds]
    y = [
        name if name in pairs.nodes.back else typed_label(pairs.b, pairs.b.nodes[name])
        for name in news
    ]
    for start, other, size in SequenceMatcher(None, x, y, autojunk=False).get_matching_blocks():
        for old, new in zip(olds[start : start + size], news[other : other + size], strict=True):
            pairs.add(old, new)


def _same_name(pairs: _Pairs) -> None:
    """By the name of the module, whatever its class; by the name of the node."""
    targets = [
        {n: node.target for n, node in w.nodes.items() if w.called(node)}
        for w in (pairs.a, pairs.b)
    ]
    names = [{n: n for n in w.nodes} for w in (pairs.a, pairs.b)]
    for olds, news in (targets, names):
        pairs.add_equal(olds, news)


def _same_names(known: _Partners, olds: Iterable[str], news: Iterable[str]) -> dict[str, str]:
    """The known partners, and beside them what has the same name and no partner."""
    free = set(news) - set(known.back)
    same = {name: name for name in olds if name in free and name not in known.forth}
    return {**known.forth, **same}


def _tensors(
    a: ArchitectureSpec, b: ArchitectureSpec, modules: Mapping[str, str], got: _Partners
) -> dict[str, str]:
    """Those of partner modules have the same name inside; those that the graph gets itself are known."""
    news = {item.name for item in b.tensors}
    for item in a.tensors:
        for outer, inner in _splits(item.name):
            partner = f"{modules.get(outer)}.{inner}"
            if outer in modules and partner in news and got.fit(item.name, partner):
                got.join(item.name, partner)
    return _same_names(got, (item.name for item in a.tensors), news)


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """a.b.c: (a.b, c), (a, b.c)."""
    parts = name.split(".")
    return ((".".join(parts[:end]), ".".join(parts[end:])) for end in range(len(parts) - 1, 0, -1))
