"""What changed between two specifications."""

from collections.abc import Iterable, Mapping, Sequence

from fxgrow.spec.arguments import Frozen, show
from fxgrow.spec.canonical import node_hashes
from fxgrow.spec.models import ArchitectureSpec, Cost, GrowthStep, ModuleSpec, NodeSpec, Shape


class WidthDiff(Frozen):
    """A width whose size differs, in neurons. None: it does not exist there.

    ``split``, ``new`` and ``score`` add up the growth steps between the two; 0, 0, None if there is no such history.
    """

    name: str
    before: int | None
    after: int | None
    split: int = 0
    new: int = 0
    score: float | None = None


class NodeDiff(Frozen):
    """A node of the same name that computes something else; both as text."""

    name: str
    before: str
    after: str


class ModuleDiff(Frozen):
    """One constructor argument of one module (``type``: its class), as Python prints it. None: it is not there."""

    name: str
    attribute: str
    before: str | None
    after: str | None


class TensorDiff(Frozen):
    """A parameter or buffer whose shape differs. None: it does not exist there."""

    name: str
    before: Shape | None
    after: Shape | None


class SpecDiff(Frozen):
    """Everything that differs between two architectures, and both costs."""

    widths: tuple[WidthDiff, ...] = ()
    inserted: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[NodeDiff, ...] = ()
    modules: tuple[ModuleDiff, ...] = ()
    tensors: tuple[TensorDiff, ...] = ()
    cost_before: Cost
    cost_after: Cost

    @property
    def empty(self) -> bool:
        """Whether nothing differs."""
        parts = (self.widths, self.inserted, self.removed, self.changed, self.modules, self.tensors)
        return not any(parts) and self.cost_before == self.cost_after


def diff(a: ArchitectureSpec, b: ArchitectureSpec) -> SpecDiff:
    """What has to be done to ``a`` to get ``b``. Nodes, modules, tensors and widths are matched by name.

    Nodes that were merely renamed or reordered are no difference.
    """
    inserted, removed, changed = _nodes(a, b)
    return SpecDiff(
        widths=tuple(_widths(a, b)),
        inserted=inserted,
        removed=removed,
        changed=changed,
        modules=tuple(_modules(a.modules, b.modules)),
        tensors=tuple(_tensors(a, b)),
        cost_before=a.cost,
        cost_after=b.cost,
    )


def steps_between(a: ArchitectureSpec, b: ArchitectureSpec) -> tuple[GrowthStep, ...]:
    """The growth steps that lead from ``a`` to ``b``; none if ``b`` does not descend from ``a``."""
    starts = [index for index, step in enumerate(b.history) if step.parent == a.fingerprint]
    return b.history[starts[0] :] if starts and a.fingerprint != b.fingerprint else ()


def _union(a: Iterable[str], b: Iterable[str]) -> list[str]:
    """All names, those of ``a`` first."""
    return list(dict.fromkeys((*a, *b)))


def _widths(a: ArchitectureSpec, b: ArchitectureSpec) -> Iterable[WidthDiff]:
    before, after = ({width.name: width.size for width in spec.widths} for spec in (a, b))
    changes = [change for step in steps_between(a, b) for change in step.widths]
    for name in _union(before, after):
        own = [change for change in changes if change.width == name]
        if before.get(name) != after.get(name) or own:
            scores = [score for change in own for score in change.scores]
            yield WidthDiff(
                name=name,
                before=before.get(name),
                after=after.get(name),
                split=sum(change.split for change in own),
                new=sum(change.new for change in own),
                score=sum(scores) if scores else None,
            )


def _nodes(a: ArchitectureSpec, b: ArchitectureSpec) -> tuple[tuple[str, ...], tuple[str, ...], tuple[NodeDiff, ...]]:
    if sorted(node_hashes(a.nodes, a.modules).values()) == sorted(node_hashes(b.nodes, b.modules).values()):
        return (), (), ()
    before, after = ({node.name: node for node in spec.nodes} for spec in (a, b))
    texts = ((name, _text(before[name]), _text(after[name])) for name in before if name in after)
    return (
        tuple(name for name in after if name not in before),
        tuple(name for name in before if name not in after),
        tuple(NodeDiff(name=name, before=old, after=new) for name, old, new in texts if old != new),
    )


def _text(node: NodeSpec) -> str:
    arguments = (*map(show, node.args), *(f"{key}={show(value)}" for key, value in sorted(node.kwargs.items())))
    return f"{node.op} {node.target}({', '.join(arguments)})"


def _modules(a: Sequence[ModuleSpec], b: Sequence[ModuleSpec]) -> Iterable[ModuleDiff]:
    before, after = ({item.name: _attributes(item) for item in modules} for modules in (a, b))
    for name in _union(before, after):
        old, new = before.get(name, {}), after.get(name, {})
        for key in _union(old, new):
            if old.get(key) != new.get(key):
                yield ModuleDiff(name=name, attribute=key, before=old.get(key), after=new.get(key))


def _attributes(item: ModuleSpec) -> Mapping[str, str]:
    return {"type": item.type, **{key: show(value) for key, value in item.config.items()}}


def _tensors(a: ArchitectureSpec, b: ArchitectureSpec) -> Iterable[TensorDiff]:
    before, after = ({item.name: item.shape for item in spec.tensors} for spec in (a, b))
    for name in _union(before, after):
        if before.get(name) != after.get(name):
            yield TensorDiff(name=name, before=before.get(name), after=after.get(name))
