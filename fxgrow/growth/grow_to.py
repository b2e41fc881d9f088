"""Start a bigger model of the same family from a smaller trained one.

Reference: Chen, Goodfellow, Shlens, "Net2Net", ICLR 2016, for the idea; Wang et al., "LEMON:
Lossless Model Expansion", ICLR 2024, and Gesmundo and Maile (2023) for transformers. How we differ:
no model family is known by name. Lists of blocks are matched by the order of their blocks, and what
the smaller model lacks starts as the identity (``deepen``). The sizes of the bigger model's
parameters then say how much each width grows: an axis of a parameter that holds c_w entries per
neuron of width w grows by sum_w c_w n_w, which is one linear equation per axis for the numbers n_w
of new neurons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from torch import nn

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Seed
from fxgrow.capture import direct_tensors
from fxgrow.copying import copy_module
from fxgrow.coupling import NO_RULE, UNDER_NORMS, AxisKey, Coupling, couple
from fxgrow.errors import GrowthError
from fxgrow.growth.block_lists import is_block_list
from fxgrow.growth.deepen import Deepened, deepen
from fxgrow.growth.lineage import Lineage
from fxgrow.growth.preservation import Preservation
from fxgrow.growth.widen import Widened, model_and_examples, widen
from fxgrow.sharding import require_unsharded
from fxgrow.spec import GrowthStep
from fxgrow.surgery import parameter_shapes

_Shapes = Mapping[str, tuple[int, ...]]
_MAX_LISTED = 6


@dataclass(frozen=True)
class Expanded(Widened):
    """A bigger model with the function of a smaller one.

    Args:
        amounts: by the name of each width of the smaller model that grew how many neurons it got.
        sizes: how many it had.
        new_blocks: the path of each new block, and of the block that it started from.

    Example:
        >>> bigger = fxgrow.grow_to(small, like=big, example_inputs=words)
        >>> bigger.amounts, bigger.new_blocks
    """

    amounts: Mapping[str, int] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    new_blocks: Mapping[str, str] = field(default_factory=dict)


@checked
def grow_to(
    model: nn.Module,
    like: nn.Module,
    example_inputs: Any = None,
    seed: Seed = 0,
    examples: Sequence[Any] = (),
    history: Lineage | Sequence[GrowthStep] = (),
) -> Expanded:
    """Give a bigger model of the same family the function of a smaller one.

    Lists of blocks get as many as the bigger model has, old ones first (``deepen``). Widths get new
    neurons, streams under norms included, until each parameter has the shape of the bigger model's
    parameter of the same name; a stream without a rule for that (post-norm) splits by multiples.
    A copy of the bigger model takes these parameters, and is compared with the smaller model.

    Args:
        model: the smaller model, trained; it is not changed.
        like: the bigger one, which stays, and whose parameters do not matter. Beside those of new
            blocks its layers must have the names of the smaller one's.
        example_inputs: of the smaller model.
        seed, examples: of new weights; more example inputs.
        history: earlier growth steps, as for ``widen``.

    Returns:
        A copy of ``like`` that computes what ``model`` does, and what grew.

    Raises:
        GrowthError: ``unlike-models`` if a parameter is missing in one of them, is smaller in
            ``like``, or is larger along what is no width (classes, words, positions); the refusal
            code of a width that cannot grow; what ``deepen`` raises; ``broken-promise``.
        ModelError: the smaller model does not run on its example inputs.

    Example:
        >>> bigger = fxgrow.grow_to(small, like=GPT(size=160, blocks=8), example_inputs=words)
    """
    require_unsharded(model, like)
    _, given = model_and_examples(model, example_inputs, examples)
    start = Deepened(model, {}, lineage=Lineage.of(model, history))
    deeper = _as_deep(start, like, given)
    model, new_blocks = deeper.module, deeper.new_blocks
    coupling = couple(model, given[0], examples=given[1:])
    amounts = _amounts(model, like, coupling)
    if not amounts and not new_blocks:
        raise _unlike(model, like, "their parameters have the same shapes already")
    # If only blocks are new, no axis changes.
    wider = Widened(model, {}, lineage=deeper.lineage)
    if amounts:
        wider = _widened(wider, coupling, amounts, given, seed)
    bigger = copy_module(like)
    bigger.to(next(wider.module.parameters())).train(model.training)
    bigger.load_state_dict(wider.module.state_dict())
    sizes = {name: coupling.by_name[name].size for name in amounts}
    return _compared(wider, bigger, given, amounts=amounts, sizes=sizes, new_blocks=new_blocks)


def _compared(
    wider: Widened, bigger: nn.Module, examples: Sequence[tuple[Any, ...]], **grown: Any
) -> Expanded:
    """The bigger model, if it computes what the wider one does."""
    # What grew was compared with the smaller model already.
    before = Preservation.of(wider.module, *examples, leaves=direct_tensors)
    maps, config, error = wider.index_maps, wider.config, before.require(bigger)
    inputs, lineage = examples[0], wider.lineage
    return Expanded(bigger, maps, config, error, before.skipped, (), inputs, lineage, **grown)


def _as_deep(smaller: Deepened, like: nn.Module, examples: Sequence[Any]) -> Deepened:
    """The smaller model with as many blocks as the bigger one."""
    # Lists inside of blocks are met again when their blocks are as many as they have to be.
    while longer := _longer_lists(smaller.module, like):
        deeper = deepen(smaller.module, longer, examples[0], examples=examples[1:])
        new_blocks = {**smaller.new_blocks, **deeper.new_blocks}
        lineage = smaller.lineage.then(*deeper.lineage.pending)
        smaller = replace(deeper, new_blocks=new_blocks, lineage=lineage)
    return smaller


def _longer_lists(model: nn.Module, like: nn.Module) -> dict[str, int]:
    """How many blocks more each list has in the bigger model; those inside of others come later."""
    found: dict[str, int] = {}
    lists = dict(like.named_modules())
    for path, blocks in model.named_modules():
        is_inside = any(not outer or path.startswith(f"{outer}.") for outer in found)
        if path not in lists or is_inside or not is_block_list(blocks):
            continue
        more = len(lists[path]._modules) - len(blocks._modules)
        if is_block_list(lists[path]) and more > 0:
            found[path] = more
    return found


def _widened(
    start: Widened,
    coupling: Coupling,
    amounts: Mapping[str, int],
    examples: Sequence[Any],
    seed: int,
) -> Widened:
    """New neurons everywhere; under norms that have no rule for them every neuron splits alike."""

    def widened(model: Widened, some: Mapping[str, int], how: Literal["split", "new"]) -> Widened:
        wider = widen(model.module, some, examples[0], how=how, seed=seed, examples=examples[1:])
        return replace(wider, lineage=model.lineage.then(*wider.lineage.pending))

    try:
        return widened(start, amounts, "new")
    except GrowthError as error:
        multiples = {}
        for name, count in amounts.items():
            width = coupling.by_name[name]
            is_under_norm = width.refusal is not None and width.refusal.code in UNDER_NORMS
            if is_under_norm and count % width.size == 0:
                multiples[name] = count
        if error.code not in NO_RULE or not multiples:
            raise
    split = widened(start, multiples, "split")
    others = {name: count for name, count in amounts.items() if name not in multiples}
    return widened(split, others, "new") if others else split


def _amounts(model: nn.Module, like: nn.Module, coupling: Coupling) -> dict[str, int]:
    """How many neurons each width gains."""
    small, big = parameter_shapes(model), parameter_shapes(like)
    _require_same_names(model, like, small, big)
    fixed = {axis.key: axis.refusal.reason for axis in coupling.fixed_axes}
    rows, growths = [], []
    for name, shape in small.items():
        for axis, size in enumerate(shape):
            counts = _entries_per_neuron(coupling, name, axis)
            growth = big[name][axis] - size
            if growth < 0 or (growth and not counts.any()):
                reason = fixed.get(AxisKey(name, axis), "no parameter of a layer writes it")
                why = "is smaller there" if growth < 0 else f"is no width: {reason}"
                raise _unlike(model, like, f"axis {axis} of {name} ({size} entries) {why}")
            rows.append(counts)
            growths.append(growth)
    numbers = _solved(np.array(rows), np.array(growths))
    if numbers is None:
        raise _unlike(model, like, "no numbers of new neurons give all of the shapes at once")
    names = [width.name for width in coupling.widths]
    return {name: int(count) for name, count in zip(names, numbers, strict=True) if count}


def _require_same_names(model: nn.Module, like: nn.Module, small: _Shapes, big: _Shapes) -> None:
    different = sorted(small.keys() ^ big.keys())
    different += [name for name in small.keys() & big.keys() if len(small[name]) != len(big[name])]
    if different:
        listed = ", ".join(different[:_MAX_LISTED])
        raise _unlike(model, like, f"only one of them has {listed}, or in another form")


def _entries_per_neuron(coupling: Coupling, name: str, axis: int) -> np.ndarray[Any, Any]:
    """For each width how many entries of one axis a neuron of it owns."""
    counts = np.zeros(len(coupling.widths))
    owners = coupling.owners.get((name, axis))
    if owners is not None:
        owned, entries = np.unique(owners.width[owners.width >= 0], return_counts=True)
        for number, count in zip(owned.tolist(), entries.tolist(), strict=True):
            counts[number] = count / coupling.widths[number].size
    return counts


def _solved(
    rows: np.ndarray[Any, Any], growths: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any] | None:
    """Whole numbers n >= 0 with rows n = growths; None if there are none."""
    numbers = np.linalg.lstsq(rows, growths, rcond=None)[0].round()
    is_exact = np.allclose(rows @ numbers, growths) and bool((numbers >= 0).all())
    return numbers if is_exact else None


def _unlike(model: nn.Module, like: nn.Module, why: str) -> GrowthError:
    small, big = type(model).__name__, type(like).__name__
    return GrowthError(
        "unlike-models",
        f"{small} cannot grow to the sizes of {big}: {why}; give a model of the same family that "
        "is wider or deeper",
    )
