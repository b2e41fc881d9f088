"""Both graphs of a diff as one.

A node for every pair and for everything that only one side has, so that both sides line up.
"""

from collections.abc import Iterable, Iterator, Mapping
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

# The modules around a node, outermost first: ("layer1", "0").
Group = tuple[str, ...]

# What a module's size is called; the first that it has is shown.
_SIZES = (
    ("in_channels", "out_channels"),
    ("in_features", "out_features"),
    ("num_features",),
    ("num_parameters",),
    ("normalized_shape",),
    ("num_channels",),
    ("num_embeddings", "embedding_dim"),
    ("embed_dim",),
)


@dataclass(frozen=True)
class NodeSide:
    """A node as one of the two specifications has it.

    Args:
        name: its name.
        target: what it calls or reads.
        label: a short name.
        size: kind and size of the module that it calls, if it calls one.
        text: the whole call as text.
    """

    name: str
    target: str
    label: str
    size: str
    text: str


@dataclass(frozen=True)
class MergedNode:
    """A node of either specification or of both.

    Args:
        id: its name in the merged graph.
        group: the modules around it.
        kind: a key of ``CHANGE_KINDS``.
        before: as the first specification has it, if it does.
        after: as the second one has it, if it does.
    """

    id: str
    group: Group
    kind: str
    before: NodeSide | None
    after: NodeSide | None


@dataclass(frozen=True)
class MergedGraph:
    """Both graphs as one.

    Args:
        vertices: the nodes in the order of execution.
        edges: (source, target, whether it was there before, whether it is there after).
        old_groups: the names that groups had before, for those that are called otherwise now.
    """

    vertices: tuple[MergedNode, ...]
    edges: tuple[tuple[str, str, bool, bool], ...]
    old_groups: Mapping[str, str] = field(default_factory=dict)


# Kinds of vertices, the strongest first: a vertex has the first that fits.
CHANGE_KINDS = {
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
_KINDS_OF_PAIRS = ("grown", "follows", "changed", "moved", "renamed")


def merge_graphs(
    a: ArchitectureSpec, b: ArchitectureSpec, alignment: Alignment, diff: SpecDiff
) -> MergedGraph:
    """Merge the graphs of two specifications.

    Args:
        a: the specification before.
        b: the specification after.
        alignment: which nodes and modules of the two are the same.
        diff: what changed from ``a`` to ``b``.

    Returns:
        The merged graph. A pair has the id of its name in ``b``.
    """
    ids = {node.name: f"a:{node.name}" for node in a.nodes}
    for old, new in alignment.nodes.items():
        ids[old] = f"b:{new}"
    # The layers of an undone growth step are in the first specification, not in the second.
    before_sides = _Sides(a, () if diff.forward else diff.layers)
    after_sides = _Sides(b, diff.layers if diff.forward else ())
    kinds = _kinds(b, diff)
    old_groups = _old_groups(alignment)
    new_groups = {old: new for new, old in old_groups.items()}
    vertices = []
    for old_name, new_name in _merged_order(a, b, alignment.nodes):
        before = before_sides.side(old_name) if old_name else None
        if new_name is not None:
            vertex_id, after = f"b:{new_name}", after_sides.side(new_name)
            group = after_sides.group(new_name)
        else:
            # Only the first has it: it stands in the group that its own is called now.
            vertex_id, after = ids[old_name or ""], None
            group = _translated(before_sides.group(old_name or ""), new_groups)
        kind = _kind(old_name, new_name, kinds)
        vertices.append(MergedNode(vertex_id, group, kind, before, after))
    return MergedGraph(tuple(vertices), tuple(_edges(a, b, ids)), old_groups)


def _merged_order(
    a: ArchitectureSpec, b: ArchitectureSpec, pairs: Mapping[str, str]
) -> Iterator[tuple[str | None, str | None]]:
    """Names of the first and the second, in the order of the second.

    What only the first has comes after what came before it there.
    """
    old_names = {new: old for old, new in pairs.items()}
    # Node of the second (None: the beginning) -> what only the first has, right after its partner.
    removed_after: dict[str | None, list[str]] = {None: []}
    last_paired: str | None = None
    for node in a.nodes:
        if node.name in pairs:
            last_paired = pairs[node.name]
        else:
            removed_after.setdefault(last_paired, []).append(node.name)
    for removed in removed_after[None]:
        yield removed, None
    for node in b.nodes:
        yield old_names.get(node.name), node.name
        for removed in removed_after.get(node.name, ()):
            yield removed, None


class _Sides:
    """What is shown of the nodes of one specification.

    Args:
        spec: the specification.
        layers: the layers that growth put into it; each stands with the node that it follows.
    """

    def __init__(self, spec: ArchitectureSpec, layers: Iterable[LayerDiff]) -> None:
        self.graph = GraphView(spec)
        self.order = {node.name: index for index, node in enumerate(spec.nodes)}
        # Node of a grown layer -> the modules around it, ending with the name of the layer.
        self.grown: dict[str, Group] = {}
        for layer in layers:
            around = self.group(layer.after)
            # A layer that follows another grown layer stands beside it, not in it.
            outer = around[:-1] if layer.after in self.grown else around
            self.grown |= dict.fromkeys(layer.nodes, (*outer, layer.name))

    def side(self, name: str) -> NodeSide:
        """What is shown of a node."""
        node = self.graph.nodes[name]
        module = self.graph.called(node)
        label = node.target.rpartition(".")[2] if node.op not in ("placeholder", "output") else name
        return NodeSide(name, node.target, label, _size(module) if module else "", _text(node))

    def group(self, name: str) -> Group:
        """The modules around a node.

        Around one that calls none, those that the modules before and after it have in common.
        """
        node = self.graph.nodes[name]
        if name in self.grown:
            return self.grown[name]
        if node.op in ("call_module", "get_attr"):
            return tuple(node.target.split(".")[:-1])
        if node.op in ("placeholder", "output"):
            return ()
        above, below = self._nearest(name, up=True), self._nearest(name, up=False)
        if above is None or below is None:
            return ()
        return _common_prefix(above, below)

    def _nearest(self, name: str, *, up: bool) -> Group | None:
        """The modules around the last called module before a node, or the first after it."""
        while True:
            neighbors = self._neighbors(name, up=up)
            if not neighbors:
                return None
            # The latest operand, or the earliest user.
            closest = max if up else min
            name = closest(neighbors, key=self.order.__getitem__)
            node = self.graph.nodes[name]
            if name in self.grown:
                return self.grown[name][:-1]
            if node.op == "call_module":
                return tuple(node.target.split(".")[:-1])

    def _neighbors(self, name: str, *, up: bool) -> list[str]:
        """The operands of a node, or its users."""
        if up:
            return list(self.graph.operands[name])
        return [user for user, _ in self.graph.users[name]]


def _common_prefix(a: Group, b: Group) -> Group:
    same = 0
    while same < min(len(a), len(b)) and a[same] == b[same]:
        same += 1
    return a[:same]


def _size(module: ModuleSpec) -> str:
    """Kind and size of a module: ``Conv2d 3x3 64 → 128``."""
    words = [module.type.rpartition(".")[2]]
    if "kernel_size" in module.config:
        kernel = argument_text(module.config["kernel_size"])
        words.append(kernel.strip("()").replace(", ", "x"))
    for keys in _SIZES:
        if keys[0] in module.config:
            sizes = [argument_text(module.config[key]) for key in keys]
            words.append(" → ".join(sizes))
            break
    return " ".join(words).strip()


def _text(node: NodeSpec) -> str:
    """The call of a node as Python would print it, keywords in alphabetical order."""
    arguments = list(map(argument_text, node.args))
    for key, value in sorted(node.kwargs.items()):
        arguments.append(f"{key}={argument_text(value)}")
    return f"{node.target}({', '.join(arguments)})"


def _old_groups(alignment: Alignment) -> dict[str, str]:
    """What the modules around others were called before, where they are called otherwise now."""
    old_groups: dict[str, str] = {}
    for old, new in alignment.modules.items():
        old_parts, new_parts = old.split("."), new.split(".")
        # Paths of different depths do not tell which of their modules are the same.
        if len(old_parts) != len(new_parts):
            continue
        for end in range(1, len(new_parts)):
            if old_parts[:end] != new_parts[:end]:
                old_groups.setdefault(".".join(new_parts[:end]), ".".join(old_parts[:end]))
    return old_groups


def _translated(group: Group, names: Mapping[str, str]) -> Group:
    """A group with the longest of its outer groups that has another name called by that name."""
    for end in range(len(group), 0, -1):
        outer = ".".join(group[:end])
        if outer in names:
            return (*names[outer].split("."), *group[end:])
    return group


def _kinds(b: ArchitectureSpec, diff: SpecDiff) -> dict[str, set[str]]:
    """Names of nodes by kind; of the second specification, but for removed ones."""
    changed = {node.name for node in diff.changed}
    following_owners, changed_owners = _changed_owners(diff)
    layer_nodes: set[str] = set()
    for layer in diff.layers:
        layer_nodes.update(layer.nodes)
    return {
        "layer": layer_nodes,
        "grown": _nodes_of(b, _writers(b, diff)),
        "follows": _nodes_of(b, following_owners),
        "changed": changed | _nodes_of(b, changed_owners),
        "moved": set(diff.moved),
        "renamed": {item.after for item in diff.renamed if item.what == "node"},
    }


def _nodes_of(spec: ArchitectureSpec, owners: set[str]) -> set[str]:
    """The nodes that call one of these modules or get one of these parameters."""
    names = set()
    for node in spec.nodes:
        if node.op in ("call_module", "get_attr") and node.target in owners:
            names.add(node.name)
    return names


def _writers(b: ArchitectureSpec, diff: SpecDiff) -> set[str]:
    """Modules and parameters that write a width that changed."""
    changed = {width.name for width in diff.widths}
    writers: set[str] = set()
    for width in b.widths:
        for site in width.sites:
            if width.name in changed and site.role == "writes":
                writers.update(_owners(site.parameter))
    return writers


def _changed_owners(diff: SpecDiff) -> tuple[set[str], set[str]]:
    """Modules and parameters that changed: because of another change, and by themselves."""
    following: set[str] = set()
    independent: set[str] = set()
    for module in diff.modules:
        (following if module.caused_by else independent).add(module.name)
    for tensor in diff.tensors:
        (following if tensor.caused_by else independent).update(_owners(tensor.name))
    return following, independent


def _owners(parameter: str) -> tuple[str, str]:
    """A parameter's module, and itself, since a graph may get it."""
    return parameter.rpartition(".")[0], parameter


def _kind(old: str | None, new: str | None, kinds: Mapping[str, set[str]]) -> str:
    """The strongest kind that fits a vertex; ``old`` and ``new`` are its names."""
    if old is None or new is None:
        if (new or old) in kinds["layer"]:
            return "layer"
        return "removed" if new is None else "inserted"
    for kind in _KINDS_OF_PAIRS:
        if new in kinds[kind]:
            return kind
    return "same"


def _edges(
    a: ArchitectureSpec, b: ArchitectureSpec, ids: Mapping[str, str]
) -> Iterator[tuple[str, str, bool, bool]]:
    """Every edge of either graph once, those of the second first."""
    # Dicts instead of sets, because they keep the order.
    before: dict[tuple[str, str], None] = {}
    for node in a.nodes:
        for operand in node_operands(node):
            before[(ids[operand], ids[node.name])] = None
    after: dict[tuple[str, str], None] = {}
    for node in b.nodes:
        for operand in node_operands(node):
            after[(f"b:{operand}", f"b:{node.name}")] = None
    for edge in {**after, **before}:
        source, target = edge
        yield source, target, edge in before, edge in after
