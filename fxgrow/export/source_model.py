"""What is exported: a model, its specification, and inputs to compare it on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from fxgrow.errors import ExportError, SpecError
from fxgrow.spec import (
    ArchitectureSpec,
    fingerprint_of,
    load,
    rebuild_module,
    spec_of,
    state_tensors,
)

# What a model may raise when it does not fit its input; an internal error of torch is a RuntimeError.
_RUN_ERRORS = (
    RuntimeError,
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    ArithmeticError,
    AssertionError,
)

# Integers are mostly indices: the largest range that the model takes says most about it.
_RANGES = (1000, 100, 10, 2, 1)


@runtime_checkable
class HasSpec(Protocol):
    """A graph module with its specification, such as a ``Growth``."""

    @property
    def graph_module(self) -> fx.GraphModule: ...

    @property
    def spec(self) -> ArchitectureSpec: ...


ExportableModel = str | Path | fx.GraphModule | HasSpec


@dataclass(frozen=True, eq=False)
class ExportSource:
    """A graph module on the CPU in eval mode, its spec, and example inputs that it runs on."""

    graph_module: fx.GraphModule
    spec: ArchitectureSpec
    example_inputs: tuple[Tensor, ...]

    @torch.no_grad()
    def run(self, inputs: tuple[Tensor, ...]) -> Any:
        """The output for ``inputs``, which stay as they are even if the model writes in place."""
        return self.graph_module(*(each.clone() for each in inputs))

    def resized(self, batch: int) -> tuple[Tensor, ...]:
        """The example inputs with another first axis: their entries in reverse, repeated; real numbers also halved."""
        places = torch.arange(batch)
        taken = (each[-(places % len(each)) - 1] for each in self.example_inputs)
        return tuple(each / -2 if each.is_floating_point() else each for each in taken)

    @property
    def batch(self) -> int | None:
        """The size of the first axis that all inputs have in common; None: they have none."""
        sizes = {each.shape[0] if each.ndim else None for each in self.example_inputs}
        return next(iter(sizes)) if len(sizes) == 1 else None


def export_source(model: ExportableModel, trust: frozenset[str] = frozenset()) -> ExportSource:
    """The subject of a directory, a loaded graph module or a ``Growth``; a growth as its weights are now.

    Raises ``SpecError`` for a bad directory, a module without a spec (no-spec) or changed since (stale-spec), and
    ``ExportError("does-not-run")``.
    """
    if isinstance(model, str | Path):
        found = load(model, trust=trust)
        return _with_inputs(found, spec_of(found))
    graph_module, spec = (
        (model, spec_of(model))
        if isinstance(model, fx.GraphModule)
        else (model.graph_module, model.spec)
    )
    if fingerprint_of(graph_module, spec.inputs, trust) != spec.fingerprint:
        raise SpecError(
            "stale-spec", "the graph module is not what its spec says any more; describe it again"
        )
    state = {name: tensor.cpu() for name, tensor in state_tensors(graph_module, spec).items()}
    return _with_inputs(rebuild_module(spec, state, trust), spec)


def _with_inputs(graph_module: fx.GraphModule, spec: ArchitectureSpec) -> ExportSource:
    reasons = []
    for inputs in _candidates(spec):
        subject = ExportSource(graph_module, spec, inputs)
        try:
            subject.run(inputs)
        except _RUN_ERRORS as error:
            reasons.append(" ".join(str(error).split()))
        else:
            return subject
    raise ExportError(
        "does-not-run", f"the model does not run on its own inputs ({reasons[0]}); save it again"
    )


def _candidates(spec: ArchitectureSpec) -> Iterator[tuple[Tensor, ...]]:
    """Random arguments of the shapes and dtypes that a spec records, integers from smaller and smaller ranges."""
    for high in (
        _RANGES
        if any(not getattr(torch, item.dtype).is_floating_point for item in spec.inputs)
        else (1,)
    ):
        generator = torch.Generator().manual_seed(0)
        yield tuple(
            _random(item.shape, getattr(torch, item.dtype), high, generator) for item in spec.inputs
        )


def _random(
    shape: tuple[int, ...], dtype: torch.dtype, high: int, generator: torch.Generator
) -> Tensor:
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(
        min(high, 2) if dtype == torch.bool else high, shape, generator=generator
    ).to(dtype)


def example_tensors(output: Any) -> list[Tensor]:
    """The tensors in an output, in order."""
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
