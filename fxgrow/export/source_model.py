"""What is exported: a model, its specification, and inputs to compare it on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from fxgrow.errors import ExportError, SpecError
from fxgrow.growth import Deepened, DescribedModel, Widened, described_model
from fxgrow.running import CALLED_CODE_ERRORS
from fxgrow.spec import (
    ArchitectureSpec,
    fingerprint_of,
    load,
    rebuild_module,
    spec_of,
    state_tensors,
)

# Integers are mostly indices: the largest range that the model takes tests most of it.
_RANGES = (1000, 100, 10, 2, 1)


@runtime_checkable
class HasSpec(Protocol):
    """A graph module with its specification, such as a ``Growth``."""

    @property
    def graph_module(self) -> fx.GraphModule: ...

    @property
    def spec(self) -> ArchitectureSpec: ...


ExportableModel = str | Path | nn.Module | Widened | Deepened | HasSpec


@dataclass(frozen=True, eq=False)
class ExportSource:
    """A graph module on the CPU in eval mode, its spec, and example inputs that it runs on."""

    graph_module: fx.GraphModule
    spec: ArchitectureSpec
    example_inputs: tuple[Tensor, ...]

    @torch.no_grad()
    def run(self, inputs: tuple[Tensor, ...]) -> Any:
        """The output for ``inputs``, which stay as they are even if the model writes in place."""
        # Not the module itself: torch.fx prints what a call of it raises, and the range of integers
        # is found by what does not run.
        return self.graph_module.forward(*cloned(inputs))

    def resized(self, batch: int) -> tuple[Tensor, ...]:
        """The example inputs with ``batch`` entries along their first axis.

        The entries are taken in reverse order, repeated as needed, and real numbers are divided by
        -2, so that nothing equals the original input by chance.
        """
        rows = torch.arange(batch)
        resized = []
        for tensor in self.example_inputs:
            # Row numbers -1, -2, ... -n, -1, ...: the last entry first, and around again.
            taken = tensor[-(rows % len(tensor)) - 1]
            resized.append(taken / -2 if taken.is_floating_point() else taken)
        return tuple(resized)

    @property
    def batch(self) -> int | None:
        """The size of the first axis that all inputs have in common; None: they have none."""
        sizes = set()
        for tensor in self.example_inputs:
            sizes.add(tensor.shape[0] if tensor.ndim else None)
        return sizes.pop() if len(sizes) == 1 else None


def cloned(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Copies to run a model on: it may write into its inputs."""
    return tuple(tensor.clone() for tensor in tensors)


def export_source(
    model: ExportableModel, trust: frozenset[str] = frozenset(), example_inputs: Any = None
) -> ExportSource:
    """What to export of a directory, a module or a ``Growth``.

    Args:
        model: the model; weights are exported as they are now.
        trust: prefixes of names outside torch that its specification may call.
        example_inputs: of a module that has no specification yet.

    Returns:
        The model on the CPU in evaluation mode, with its spec and inputs that it runs on.

    Raises:
        SpecError: a bad directory, a module without a spec (``no-spec``) or changed since it was
            described (``stale-spec``).
        ExportError: ``does-not-run``.
    """
    if isinstance(model, str | Path):
        loaded = load(model, trust=trust)
        return _with_inputs(loaded, spec_of(loaded))
    described: HasSpec | DescribedModel
    if isinstance(model, (nn.Module, Widened, Deepened)):
        described = described_model(model, example_inputs)
    else:
        described = model
    graph_module, spec = described.graph_module, described.spec
    if fingerprint_of(graph_module, spec.inputs, trust) != spec.fingerprint:
        raise SpecError(
            "stale-spec", "the graph module is not what its spec says any more; describe it again"
        )
    # Rebuilt from its spec: a copy on the CPU, as loading what was saved would give it.
    state = {}
    for name, tensor in state_tensors(graph_module, spec).items():
        state[name] = tensor.cpu()
    return _with_inputs(rebuild_module(spec, state, trust), spec)


def _with_inputs(graph_module: fx.GraphModule, spec: ArchitectureSpec) -> ExportSource:
    """The module with the first of the candidate inputs that it runs on."""
    reasons = []
    for inputs in _candidates(spec):
        source = ExportSource(graph_module, spec, inputs)
        try:
            source.run(inputs)
        except CALLED_CODE_ERRORS as error:
            reasons.append(" ".join(str(error).split()))
        else:
            return source
    raise ExportError(
        "does-not-run", f"the model does not run on its own inputs ({reasons[0]}); save it again"
    )


def _candidates(spec: ArchitectureSpec) -> Iterator[tuple[Tensor, ...]]:
    """Random arguments of the recorded shapes and dtypes, integers from smaller and smaller ranges.

    The seed is always the same, so an export is reproducible.
    """
    dtypes: list[torch.dtype] = [getattr(torch, item.dtype) for item in spec.inputs]
    only_real = all(dtype.is_floating_point for dtype in dtypes)
    for high in (1,) if only_real else _RANGES:
        generator = torch.Generator().manual_seed(0)
        arguments = []
        for item, dtype in zip(spec.inputs, dtypes, strict=True):
            arguments.append(_random(item.shape, dtype, high, generator))
        yield tuple(arguments)


def _random(
    shape: tuple[int, ...], dtype: torch.dtype, high: int, generator: torch.Generator
) -> Tensor:
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(shape, generator=generator).to(dtype)
    exclusive_limit = min(high, 2) if dtype == torch.bool else high
    return torch.randint(exclusive_limit, shape, generator=generator).to(dtype)


def example_tensors(output: Any) -> list[Tensor]:
    """The tensors in an output, in order."""
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
