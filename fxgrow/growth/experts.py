"""Give a mixture of experts more experts: m copies of each, of which m times as many serve a token.

Reference: He, Khattar, Prenger, Korthikanti, Yan, Liu, Fan, Aithal, Shoeybi, Catanzaro, "Upcycling
Large Language Models into Mixture of Experts", 2024, section 3.2 (virtual groups, in which the
copies of an expert are chosen together). A router that gives each of m copies the logit of its
expert gives each the m-th part of its weight, p_e / m, whether the weights of the chosen experts
are divided by their sum or not; with m k chosen instead of k the sum over them is what it was. How
we differ: the copies are told apart without a change of the function. What is linear in an expert
(its last matrix W) moves by D_1, ..., D_m with a sum of zero, as

    sum over j of p/m (W + D_j) h = p W h,

and so that their routers and other matrices see other gradients. Which tensor that is, a run tells.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from fxgrow.argument_checks import checked
from fxgrow.argument_types import Seed, Within
from fxgrow.capture import direct_tensors, require_growable_model
from fxgrow.copying import copy_module, copy_with_optimizers
from fxgrow.errors import BudgetError, GrowthError, ModelError
from fxgrow.growth.invariants import relative_error
from fxgrow.growth.new_rows import Extended
from fxgrow.growth.preservation import Preservation, excuse
from fxgrow.growth.widen import model_and_examples
from fxgrow.memory import device_of, require_memory
from fxgrow.modes import exclusive_autograd, plain_attention
from fxgrow.running import errors_as
from fxgrow.surgery import (
    DEFAULT_STATE,
    DEFAULT_TREATMENT,
    ConfigUpdate,
    ExpertTensors,
    GivenOptimizers,
    IndexMap,
    NewEntryRate,
    Optimizers,
    StateRuleName,
    StateTreatment,
    expert_tensors,
    listed_optimizers,
    model_outputs,
    named_tensors,
    resize,
    restore_on_failure,
    update_experts,
)

MAX_COPIES = 2**8
COPY_NOISE = 0.01
"""How far copies are moved apart, relative to the spread of the weights."""
_LINEAR = 1e-3
"""A relative error that a move as large as the weights does not leave in what is linear."""


@checked
def grow_experts(
    model: nn.Module,
    times: Annotated[int, Within(2, MAX_COPIES)] = 2,
    example_inputs: Any = None,
    *,
    seed: Seed = 0,
    inplace: bool = False,
    examples: Sequence[Any] = (),
    optimizer: GivenOptimizers = None,
    state: StateRuleName = DEFAULT_STATE,
    new_entry_rate: NewEntryRate | None = None,
) -> Extended:
    """Give every mixture of experts ``times`` as many experts; the function stays.

    Each expert becomes ``times`` copies that learn apart, and a token is sent to ``times`` as many.
    The ``config`` of the model says which tensors hold experts, and follows.

    Args:
        model: a Hugging Face style model (with a ``config``) whose experts are stacked in tensors.
        times: how many copies of each expert there are then.
        example_inputs, examples: the models are compared on them.
        seed: of the noise that tells copies apart.
        inplace: change model and optimizers themselves, all or nothing; else copies.
        optimizer, state, new_entry_rate: as for ``fxgrow.grow``.

    Returns:
        The model with more experts.

    Raises:
        GrowthError: ``no-experts`` if no config tells of such a mixture; ``broken-promise``.

    Example:
        >>> more = fxgrow.grow_experts(mixtral, 2, {"input_ids": ids})
        >>> more.config.fields
        {'config.num_local_experts': 16, 'config.num_experts_per_tok': 4}
    """
    require_growable_model(model, values=True)
    _, given = model_and_examples(model, example_inputs, examples)
    treatment, optimizers = StateTreatment(state, new_entry_rate), listed_optimizers(optimizer)
    treatment.require(optimizers, model)
    with exclusive_autograd(), plain_attention():
        _require_running(model, given[0])
        candidates = tuple(expert_tensors(model, times))
        original = copy_module(model) if inplace and candidates else model
        if not inplace:
            model, optimizers = copy_with_optimizers(model, optimizers)
        for experts in candidates:
            _require_memory(model, experts, times)
            growing = _Growing(experts, times, given, seed)
            try:
                return growing.carried_out(original, model, optimizers, treatment)
            # Another number in the config may have been that of the experts.
            except _NotExpertsError:
                continue
    raise GrowthError(
        "no-experts",
        f"{type(model).__name__} has no config that tells of experts which lie in stacked tensors "
        "and of which copies compute the same; widen the experts, or the model elsewhere",
    )


def _require_running(model: nn.Module, inputs: tuple[Any, ...]) -> None:
    what = f"{type(model).__name__} does not run on its example inputs"
    advice = "give inputs that its forward takes, in a type that its experts compute in"
    with errors_as(ModelError, "does-not-run", what, advice):
        model_outputs(model, inputs)


class _NotExpertsError(Exception):
    """Copies of these tensors compute something else, whatever the config says."""


@dataclass(frozen=True)
class _Growing:
    """What is to be done to a model.

    Args:
        experts: its tensors.
        times: how many copies of each expert there are to be.
        examples: positional arguments of the model.
        seed: of the noise.
    """

    experts: ExpertTensors
    times: int
    examples: tuple[tuple[Any, ...], ...]
    seed: int

    def carried_out(
        self,
        original: nn.Module,
        model: nn.Module,
        optimizers: Optimizers,
        treatment: StateTreatment,
    ) -> Extended:
        """Grow a model in place, all or nothing, and compare it with what it was."""
        before = Preservation.of(original, *self.examples, leaves=direct_tensors)
        with restore_on_failure(model, optimizers):
            config = self.grow(model, optimizers, treatment)
            try:
                error, unchecked = before.require(model), before.skipped
            except GrowthError:
                # Routers that compute in float32 round in a model of float64, too.
                unchecked = excuse(before, original, self.grow)
                if not unchecked:
                    raise
                error = before.error(model)
        rows = dict.fromkeys(self.experts.names, self.times * self.experts.size)
        inputs = self.examples[0]
        return Extended(model, rows, config, error or 0.0, optimizers, inputs, unchecked)

    def grow(
        self,
        model: nn.Module,
        optimizers: Optimizers = (),
        treatment: StateTreatment = DEFAULT_TREATMENT,
    ) -> ConfigUpdate:
        """Copy the experts of a model in place, and tell the copies apart."""
        inputs = self.examples[0]
        expected = model_outputs(model, inputs)
        copies = _copies(self.experts.size, self.times)
        resize(model, {(name, 0): copies for name in self.experts.names}, optimizers, treatment)
        config = update_experts(model, self.experts, self.times, inputs, expected)
        if config is None:
            raise _NotExpertsError
        generator = torch.Generator().manual_seed(self.seed)
        for names in _alike(self.experts.names):
            self._tell_apart(model, names, expected, generator)
        return config

    @torch.no_grad()
    def _tell_apart(
        self,
        model: nn.Module,
        names: Sequence[str],
        expected: Sequence[Tensor],
        generator: torch.Generator,
    ) -> None:
        """Move the copies of some tensors apart, if the model is linear in them."""
        tensors = {name: named_tensors(model)[name] for name in names}
        noises = {name: self._noise(tensor, generator) for name, tensor in tensors.items()}
        before = {name: tensor.clone() for name, tensor in tensors.items()}
        # As far as the weights are large: what is not linear is then far off.
        for name, tensor in tensors.items():
            tensor.add_(noises[name])
        error = relative_error(model_outputs(model, self.examples[0]), expected)
        for name, tensor in tensors.items():
            tensor.copy_(before[name])
            if error <= _LINEAR:
                tensor.add_(COPY_NOISE * noises[name])

    def _noise(self, tensor: Tensor, generator: torch.Generator) -> Tensor:
        """Noise as large as the weights, whose sum over the copies of each expert is zero."""
        # One axis for the copies, one for the experts, then those of the matrices.
        shape = (self.times, self.experts.size, *tensor.shape[1:])
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        noise = noise - noise.mean(0, keepdim=True)
        return (noise.view(tensor.shape) * float(tensor.double().std())).to(tensor)


def _copies(size: int, times: int) -> IndexMap:
    """All experts, and all of them again behind those, ``times`` times in all."""
    source = torch.arange(size).repeat(times)
    copy = torch.arange(times).repeat_interleave(size)
    return IndexMap(source, torch.ones(len(source), dtype=torch.float64), copy)


def _alike(names: Sequence[str]) -> list[list[str]]:
    """Stacks of matrices in groups: those at the same place of every layer."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[re.sub(r"\d+", "*", name)].append(name)
    return list(groups.values())


def _require_memory(model: nn.Module, experts: ExpertTensors, times: int) -> None:
    tensors = named_tensors(model)
    needed = 0  # bytes
    for name in experts.names:
        needed += (times - 1) * tensors[name].numel() * tensors[name].element_size()
    require_memory(needed, "so many experts", "ask for fewer", BudgetError, device_of(model))
