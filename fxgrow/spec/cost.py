"""What one forward pass costs, counted on the meta device."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import fx, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from fxgrow.errors import SpecError
from fxgrow.spec.models import Cost

# What a model may raise when it does not fit its input; an internal error of torch is a RuntimeError.
_RUN_ERRORS = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError, AssertionError)


def multiply_adds(graph_module: fx.GraphModule, example_inputs: Sequence[torch.Tensor]) -> int:
    """Multiply-adds of convolutions, matrix products and attention in one forward pass; nothing is allocated.

    Counted in eval mode; the module is as before afterwards.
    ``SpecError("not-runnable")`` if the graph does not run on tensors without values.
    """
    state = {
        name: torch.empty_like(tensor, device="meta")
        for named in (graph_module.named_parameters, graph_module.named_buffers)
        for name, tensor in named(remove_duplicate=False)
    }
    inputs = tuple(torch.empty_like(tensor, device="meta") for tensor in example_inputs)
    counter = FlopCounterMode(display=False)
    try:
        with _evaluating(graph_module), torch.no_grad(), counter:
            functional_call(graph_module, state, inputs, tie_weights=False)
    except _RUN_ERRORS as error:
        raise SpecError(
            "not-runnable", f"the graph does not run on its example inputs ({error}); give inputs that it accepts"
        ) from error
    return counter.get_total_flops() // 2


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode inside, so that a batch of one is no error; every submodule's own mode comes back."""
    modes = {inner: inner.training for inner in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for inner, training in modes.items():
            inner.training = training


def cost(graph_module: fx.GraphModule, example_inputs: Sequence[torch.Tensor]) -> Cost:
    """Parameters (tied ones once) and multiply-adds of ``graph_module``."""
    parameters = sum(parameter.numel() for parameter in graph_module.parameters())
    return Cost(parameters=parameters, multiply_adds=multiply_adds(graph_module, example_inputs))
