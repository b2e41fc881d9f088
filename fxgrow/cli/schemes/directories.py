"""``directory:PATH``: a model that was saved, with its history."""

from dataclasses import replace

import torch

from fxgrow.cli.reference_grammar import Reference
from fxgrow.cli.schemes.construction import ResolvedModel, check_options, with_inputs
from fxgrow.cli.trust import Trust
from fxgrow.spec import ArchitectureSpec, load, spec_of


def spec_directory(reference: Reference, classes: int | None, trust: Trust) -> ResolvedModel:
    """Load ``directory:PATH``, a run or spec directory, with its weights and growth history.

    Args:
        reference: the parsed reference; its name is the path.
        classes: ignored, a saved model has the outputs that it has.
        trust: not needed, a spec can only name functions of an allow-list.

    Returns:
        The model with example inputs of the shapes that it was saved with.

    Raises:
        ModelError: if the reference has options.
        SpecError: if the directory does not hold a valid model.
    """
    del classes, trust
    check_options(reference, frozenset())
    model = load(reference.name)
    spec = spec_of(model)
    resolved = with_inputs(model, reference, ())
    inputs = resolved.example_inputs or example_inputs_of(spec)
    return replace(resolved, example_inputs=inputs, stated=True, history=spec.history)


def example_inputs_of(spec: ArchitectureSpec) -> tuple[torch.Tensor, ...]:
    """Arguments of the shapes and dtypes of a spec: normal for real numbers, else zeros."""
    # A generator of their own, so that global random numbers stay as they are.
    generator = torch.Generator().manual_seed(0)
    inputs = []
    for item in spec.inputs:
        value = torch.zeros(item.shape, dtype=getattr(torch, item.dtype))
        if value.is_floating_point():
            value = torch.randn(value.shape, generator=generator).to(value)
        inputs.append(value)
    return tuple(inputs)
