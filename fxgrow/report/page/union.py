"""Both graphs as one: a node for every pair and for everything that only one side has, so that both sides line up."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fxgrow.spec import (
    Alignment,
    ArchitectureSpec,
    GraphView,
    LayerDiff,
    ModuleSpec,
    NodeSpec,
    SpecDiff,
    argument_text,
    node_operands,
)

# What a module's size is called; the first that it has is shown.
_SIZES = (
    ("in_channels", "out_channels"), ("in_features", "out_features"), ("num_features",), ("num_parameters",),
    ("normalized_shape",), ("num_channels",), ("num_embeddings", "embedding_dim"), ("embed_dim",),
)  # fmt: skip


@dataclass(frozen=True)
class NodeSide:
    """A node as one specification has it: its name, what it calls, a short name, kind and size, the whole as text."""

    name: str
    target: str
    label: str
    size: str
    text: str


@dataclass(frozen=True)
class MergedNode:
    """A node of either or both. ``group``: the modules around it. ``kind``: see ``KINDS``."""

    id: str
    group: tuple[str, ...]
    kind: str
    before: NodeSide | None
    after: NodeSide | None


@dataclass(frozen=True)
class MergedGraph:
    """Vertices in the order of execution, edges as (source, target, before, after), names that groups had before."""

    vertices: tuple[MergedNode, ...]
    edges: tuple[tuple[str, str, bool, bool], ...]
    old_groups: Mapping[str, str] = field(default_factory=dict)


_CHANGE_KINDS = {
    "layer": "layer of a growth step",
    "inserted": "inserted",
    "removed": "removed",
    "grown": "writes a width that changed",
    "follows": "follows a width",
    "changed": "reads or computes something else",
    "moved": "moved",
    "renamed": "renamed",
    "same": "as before",
}
"""Kinds of vertices, the strongest first: a vertex has the first that fits."""


def merge_graphs(
    a: ArchitectureSpec, b: ArchitectureSpec, alignment: Alignment, diff: SpecDiff
) -> MergedGraph:
    """``a`` and ``b`` as one graph. What is paired has the id of its name in ``b``."""
    ids = {node.name: f"a:{node.name}" for node in a.nodes} | {
        old: f"b:{new}" for old, new in alignment.nodes.items()
    }
    back = {new: old for old, new in alignment.nodes.items()}
    kinds = _kinds(b, diff)
    x, y = (
        _Sides(a, diff.layers if not diff.forward else ()),
        _Sides(b, diff.layers if diff.forward else ()),
    )
    old_groups = _old_groups(alignment)
    new_groups = {old: new for new, old in old_groups.items()}
    pairs = _Pairs(alignment.nodes, back)
    vertices = []
    for old, new in pairs.merged([n.name for n in a.nodes], [n.name for n in b.nodes]):
        before, after = x.side(old) if old else None, y.side(new) if new else None
        group = y.group(new) if new else _translated(x.group(old or ""), new_groups)
        vertices.append(
            MergedNode(
                ids[old] if old else f"b:{new}", group, _kind(old, new, kinds), before, after
            )
        )
    return MergedGraph(tuple(vertices), tuple(_edges(a, b, ids)), old_groups)


class _Pairs:
    """Names of the first and the second, in one order."""

    def __init__(self, forth: Mapping[str, str], back: Mapping[str, str]) -> None:
        self.forth, self.back = forth, back

    def merged(self, olds: list[str], news: list[str]) -> Iterable[tuple[str | None, str | None]]:
        """The order of the second; what only the first has comes after what came before it there."""
        follow: dict[str | None, list[str]] = {}
        last: str | None = None
        for old in olds:
            last = self.forth.get(old, last)
            if old not in self.forth:
                follow.setdefault(last, []).append(old)
        yield from ((old, None) for old in follow.get(None, ()))
        for new in news:
            yield self.back.get(new), new
            yield from ((old, None) for old in follow.get(new, ()))


class _Sides:
    """What is shown of the nodes of one specification; a grown layer stands with the node that it follows."""

    def __init__(self, spec: ArchitectureSpec, layers: Iterable[LayerDiff]) -> None:
        self.wiring = GraphView(spec)
        self.order = {node.name: index for index, node in enumerate(spec.nodes)}
        self.grown: dict[str, tuple[str, ...]] = {}
        for layer in layers:
            around = self.group(layer.after)
            outer = around[:-1] if layer.after in self.grown else around
            self.grown |= dict.fromkeys(layer.nodes, (*outer, layer.name))

    def side(self, name: str) -> NodeSide:
        node = self.wiring.nodes[name]
        module = self.wiring.called(node)
        label = node.target.rpartition(".")[2] if node.op not in ("placeholder", "output") else name
        return NodeSide(name, node.target, label, _size(module) if module else "", _text(node))

    def group(self, name: str) -> tuple[str, ...]:
        """The modules around a node; around one that calls none, those that its neighbours have in common."""
        node = self.wiring.nodes[name]
        if name in self.grown:
            return self.grown[name]
        if node.op in ("call_module", "get_attr"):
            return tuple(node.target.split(".")[:-1])
        if node.op in ("placeholder", "output"):
            return ()
        above, below = self._nearest(name, up=True), self._nearest(name, up=False)
        return _common(above, below) if above is not None and below is not None else ()

    def _nearest(self, name: str, *, up: bool) -> tuple[str, ...] | None:
        """The modules around the last called module before a node, or around the first after it."""
        while True:
            users = [user for user, _ in self.wiring.users[name]]
            beside = list(self.wiring.operands[name]) if up else users
            if not beside:
                return None
            name = (max if up else min)(beside, key=self.order.__getitem__)
            node = self.wiring.nodes[name]
            if name in self.grown:
                return self.grown[name][:-1]
            if node.op == "call_module":
                return tuple(node.target.split(".")[:-1])


def _common(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
    same = 0
    while same < min(len(a), len(b)) and a[same] == b[same]:
        same += 1
    return a[:same]


def _size(module: ModuleSpec) -> str:
    kind = module.type.rpartition(".")[2]
    sizes = next(
        (
            [argument_text(module.config[key]) for key in keys]
            for keys in _SIZES
            if keys[0] in module.config
        ),
        [],
    )
    kernel = (
        [argument_text(module.config["kernel_size"]).strip("()").replace(", ", "x")]
        if "kernel_size" in module.config
        else []
    )
    return " ".join((kind, *kernel, " → ".join(sizes))).strip()


def _text(node: NodeSpec) -> str:
    arguments = (
        *map(argument_text, node.args),
        *(f"{key}={argument_text(value)}" for key, value in sorted(node.kwargs.items())),
    )
    return f"{node.target}({', '.join(arguments)})"


def _old_groups(alignment: Alignment) -> dict[str, str]:
    """What the modules around others were called before, where they are called otherwise now."""
    found: dict[str, str] = {}
    for old, new in alignment.modules.items():
        x, y = old.split("."), new.split(".")
        for end in range(1, len(y)):
            if len(x) == len(y) and x[:end] != y[:end]:
                found.setdefault(".".join(y[:end]), ".".join(x[:end]))
    return found


def _translated(group: tuple[str, ...], names: Mapping[str, str]) -> tuple[str, ...]:
    for end in range(len(group), 0, -1):
        outer = ".".join(group[:end])
        if outer in names:
            return (*names[outer].split("."), *group[end:])
    return group


def _kinds(b: ArchitectureSpec, diff: SpecDiff) -> dict[str, set[str]]:
    """Names of nodes by kind; of the second specification, but for removed ones."""
    called = {node.name: node.target for node in b.nodes if node.op in ("call_module", "get_attr")}
    changed = {width.name for width in diff.widths}
    sites = [site for width in b.widths if width.name in changed for site in width.sites]
    writers = {
        owner for site in sites if site.role == "writes" for owner in _owners(site.parameter)
    }
    following = {item.name for item in diff.modules if item.caused_by}
    following |= {owner for item in diff.tensors if item.caused_by for owner in _owners(item.name)}
    odd = {item.name for item in diff.modules if not item.caused_by}
    odd |= {owner for item in diff.tensors if not item.caused_by for owner in _owners(item.name)}
    return {
        "layer": {name for layer in diff.layers for name in layer.nodes},
        "grown": {name for name, target in called.items() if target in writers},
        "follows": {name for name, target in called.items() if target in following},
        "changed": {item.name for item in diff.changed}
        | {name for name, target in called.items() if target in odd},
        "moved": set(diff.moved),
        "renamed": {item.after for item in diff.renamed if item.what == "node"},
    }


def _owners(parameter: str) -> tuple[str, str]:
    """A parameter's module, and itself, since a graph may get it."""
    return parameter.rpartition(".")[0], parameter


def _kind(old: str | None, new: str | None, kinds: Mapping[str, set[str]]) -> str:
    if old is None or new is None:
        return (
            "layer" if (new or old) in kinds["layer"] else "removed" if new is None else "inserted"
        )
    return next(
        (
            kind
            for kind in ("grown", "follows", "changed", "moved", "renamed")
            if new in kinds[kind]
        ),
        "same",
    )


def _edges(
    a: ArchitectureSpec, b: ArchitectureSpec, ids: Mapping[str, str]
) -> Iterable[tuple[str, str, bool, bool]]:
    before = {(ids[used], ids[node.name]): None for node in a.nodes for used in node_operands(node)}
    after = {
        (f"b:{used}", f"b:{node.name}"): None for node in b.nodes for used in node_operands(node)
    }
    for source, target in {**after, **before}:
        yield source, target, (source, target) in before, (source, target) in after
