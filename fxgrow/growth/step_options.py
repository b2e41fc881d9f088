"""How a growth step runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from fxgrow.growth.scope import ALL_WIDTHS, Scope
from fxgrow.growth.timer import OnPhase, tell_nobody
from fxgrow.spec import GrowthStep
from fxgrow.surgery import DEFAULT_TREATMENT, Optimizers, StateTreatment


@dataclass(frozen=True, eq=False)
class StepOptions:
    """How a growth step runs.

    Args:
        optimizers: grow along, state included.
        seed: of the candidates' initial directions.
        history: growth steps to put before this one in the specification.
        inplace: grow the model and optimizers themselves, unless something fails; else copies.
        memory_limit: bytes that a step over an over-grown graph may keep. Candidates that do not
            fit together are searched in turn.
        scope: which widths may grow, and which grow alike.
        example_inputs: in one of the forms of an input; None: those of the first batch.
        describe: off: without a specification, which spares a quarter of the time on large graphs.
        costs: whether the report tells multiply-adds and memory; None: as ``describe``.
        examples: more example inputs; only what can grow in all of them grows.
        grow_frozen: widths that frozen parameters (``requires_grad`` off) write or read may grow,
            too. What is new of such a parameter does not learn either.
        refresh_statistics: estimate the running statistics of all batch norms anew on the growth
            batches, before anything is searched or measured; those of frozen batch norms stay.
        accept_no_gain: grow even if no step of the selected candidates lowers the loss, so that eps
            ends at 0: split neurons are twins, and new ones have no effect yet.
        treatment: what becomes of the optimizers' state.
        companions: networks like the model that grow with it, in place.
        on_phase: called with the name of every phase when it begins, and with its steps.
    """

    optimizers: Optimizers = ()
    seed: int = 0
    history: Sequence[GrowthStep] = ()
    inplace: bool = False
    memory_limit: float | None = None
    scope: Scope = ALL_WIDTHS
    example_inputs: Any = None
    describe: bool = True
    costs: bool | None = None
    examples: Sequence[Any] = ()
    grow_frozen: bool = False
    refresh_statistics: bool = True
    accept_no_gain: bool = False
    treatment: StateTreatment = DEFAULT_TREATMENT
    companions: Sequence[nn.Module] = ()
    on_phase: OnPhase = tell_nobody

    @property
    def counts_costs(self) -> bool:
        """Whether multiply-adds and memory are counted for the report."""
        return self.describe if self.costs is None else self.costs


DEFAULT_OPTIONS = StepOptions()
"""A step without an optimizer, on a copy of the model."""
