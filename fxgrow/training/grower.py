"""Growth inside anybody's own training loop: when to grow, and who grows along."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from fxgrow.argument_checks import checked
from fxgrow.argument_types import AboveZero, Amount, Count, Fraction, NotNegative, Seed
from fxgrow.capture import capture, positional_inputs
from fxgrow.coupling import couple
from fxgrow.errors import GrowthError
from fxgrow.growth import (
    ALL_WIDTHS,
    BatchLoss,
    Budget,
    Growth,
    LossFunction,
    Method,
    Scope,
    StepOptions,
    grow_step,
    input_and_target,
    record_calls,
    require_alike,
    require_block_candidates,
    take_batches,
    unwrapped,
)
from fxgrow.methods import default_method
from fxgrow.modes import without_autocast
from fxgrow.ranks import Ranks
from fxgrow.sharding import plain_inside
from fxgrow.spec import ArchitectureSpec, history_of
from fxgrow.surgery import (
    DEFAULT_STATE,
    GivenOptimizers,
    NewEntryRate,
    StateRuleName,
    StateTreatment,
    WithOptimizers,
    listed_optimizers,
)
from fxgrow.training.events import (
    EpochDone,
    GrowthDone,
    GrowthPhase,
    GrowthSkipped,
    GrowthStarted,
    Listener,
    combine_listeners,
)
from fxgrow.training.grower_checks import require_forward, require_reachable, require_scheduled
from fxgrow.training.grower_schedulers import rebind_schedulers, require_rebindable
from fxgrow.training.grower_state import GrowerState, GrownParts, read_grower_state
from fxgrow.training.growth_request import count_examples
from fxgrow.training.history import Measurement, Promise, TrainingHistory
from fxgrow.training.measure import (
    activation_spectra,
    mean_over_processes,
    promise_of,
    require_gains_of,
)
from fxgrow.training.triggers import Trigger

_DEFAULT_BUDGET = Budget(neurons=0.3)


class Grower(WithOptimizers):
    """Grows a model in your own training loop, whenever a trigger says so.

    By default in place: model and optimizers stay the objects that they are, so that schedulers,
    gradient scalers, clipping, hooks and loggers go on. ``follow`` adds networks that grow along.
    Parameters that do not learn (``requires_grad`` off), and with them the widths that they write
    or read, stay as they are unless ``grow_frozen`` is set.

    Args:
        model: what is trained. In ``DistributedDataParallel`` what is inside grows; what
            ``fully_shard`` was applied to stays sharded.
        optimizer: of its parameters, and of whatever else; a list of those that share them out
            (Muon and AdamW, say); None if it is to be left alone.
        loss_fn: as for ``fxgrow.grow``.
        when: the trigger; any of ``fxgrow.training``, or one of your own.
        method: how to choose what grows; ``Auto()`` if None, ``Firefly()`` with blocks.
        budget: how much one growth step may add; ``Budget(neurons=0.3)`` if None.
        example_inputs: arguments of the model; those of the first growth batch if None.
        inplace: grow model and optimizers themselves. Else copies grow, which are ``model`` and
            ``optimizers`` of the grower from then on (``optimizer``, if there is one).
        schedulers: of the optimizers; they go on with the copies. In place they need not be named.
        state, new_entry_rate: what becomes of the optimizers' state (``docs/optimizers.md``).
        seed: of the first directions.
        scope: which widths may grow, which alike, and which lists of blocks get longer.
        memory_limit: bytes that a search step may keep.
        grow_frozen: grow widths that frozen parameters write or read, too.
        accept_no_gain: grow even where nothing that was found lowers the loss.
        epochs: of the whole training, for triggers that ask (``EqualPhases``).
        grow_steps: the most growth steps.
        listeners: each is called with what ``step`` was told and with every growth step, in order.

    Raises:
        GrowthError: the optimizer cannot grow along, by name of its class (``optimizer-state``,
            ``state-rule``, ``foreign-optimizer``); several do not share the parameters out
            (``shared-parameter``, ``missing-optimizer``); ``lost-scheduler``: a scheduler would go
            on with an optimizer that was copied; ``foreign-scheduler``: one is of another one.
        ArgumentError: ``unused-option``: there is no optimizer that would follow what is said.
        TrainingError: ``no-promise``: the trigger compares gains, and the method predicts none;
            ``no-epochs``: it divides the epochs, and ``epochs`` does not say how many there are;
            ``bad-setting``: it cannot ask for growth in so many epochs.

    Example:
        >>> grower = fxgrow.Grower(
        ...     model, optimizer, loss_fn=loss_fn, when=OnPlateau(patience=2), grow_steps=4
        ... )
        >>> grower.follow(average)
        >>> for epoch in range(30):
        ...     loss = train(model, loader, optimizer, scheduler, average)
        ...     grower.step(loader, loss=loss)
    """

    @checked
    def __init__(
        self,
        model: nn.Module,
        optimizer: GivenOptimizers = None,
        *,
        loss_fn: LossFunction,
        when: Trigger,
        method: Method | None = None,
        budget: Budget | None = None,
        example_inputs: Any = None,
        inplace: bool = True,
        schedulers: Sequence[Any] = (),
        state: StateRuleName = DEFAULT_STATE,
        new_entry_rate: NewEntryRate | None = None,
        seed: Seed = 0,
        scope: Scope = ALL_WIDTHS,
        memory_limit: AboveZero | None = None,
        grow_frozen: bool = False,
        accept_no_gain: bool = False,
        epochs: Amount = 0,
        grow_steps: Count = 1,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self.model, self.when = model, when
        self.optimizers = listed_optimizers(optimizer)
        self.method, self.budget = method or default_method(scope), budget or _DEFAULT_BUDGET
        self.schedulers, self.companions = tuple(schedulers), list[nn.Module]()
        self.history = TrainingHistory((), epochs=epochs, grow_steps=grow_steps)
        self._grown_parts: tuple[GrownParts, ...] = ()
        self.skipped = ""
        """Why the last growth step that was due gained nothing, in a sentence; "" if it did."""
        self._loss_fn, self._tell = loss_fn, combine_listeners(listeners)
        self._options = StepOptions(
            seed=seed,
            history=history_of(self._bare),
            inplace=inplace,
            memory_limit=memory_limit,
            scope=scope,
            example_inputs=example_inputs,
            grow_frozen=grow_frozen,
            accept_no_gain=accept_no_gain,
            treatment=StateTreatment(state, new_entry_rate),
        )
        require_scheduled(schedulers, self.optimizers)
        self._options.treatment.require_used(self.optimizers, "Grower()")
        require_reachable(when, epochs)
        self._require_possible()
        if example_inputs is not None:
            positional_inputs(self._bare, example_inputs)
            if inplace:
                self._require_no_layers(())

    @checked
    def follow(self, companion: nn.Module) -> None:
        """Let another network grow along: torch's ``AveragedModel``, a teacher, any copy.

        It keeps its function at every growth step, is changed in place whatever ``inplace`` says,
        and is put back if a step fails.

        Args:
            companion: of the model's architecture as it is now, with tensors of its own.

        Raises:
            GrowthError: ``unlike-models``: it has other tensors, or the model's own.
        """
        require_alike([*self.companions, companion], self._bare)
        self.companions.append(companion)

    @checked
    def step(
        self,
        batches: Iterable[Any],
        *,
        loss: float,
        epoch: Count | None = None,
        step: Count | None = None,
        validation_loss: float | None = None,
        validation_accuracy: Fraction | None = None,
        multiply_adds: NotNegative = 0.0,
    ) -> Growth | None:
        """Tell what was measured, and grow if the trigger says so.

        Call it once per epoch, or as often as you measure; in all processes of a group, if there is
        one. What is measured is then the mean over them.

        Args:
            batches: to grow on; looked at only if the model grows.
            loss: the mean training loss since the call before.
            epoch: how many epochs are done; one more than at the call before if None.
            step: how many steps of the optimizer are done, for triggers that ask (``AtSteps``).
            validation_loss: on examples that are set aside, for triggers that ask.
            validation_accuracy: on them, from 0 to 1.
            multiply_adds: of all training so far, for ``ByPromise``.

        Returns:
            What grew; None if nothing did. A growth step that gains nothing counts as one, and
            ``skipped`` says why.

        Raises:
            FxgrowError: as ``fxgrow.grow``; nothing is changed then.
        """
        number = self.history.now.epoch + 1 if epoch is None else epoch
        measured = Measurement(
            epoch=number,
            step=self.history.now.step if step is None else step,
            loss=loss,
            multiply_adds=multiply_adds,
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
        )
        measured = mean_over_processes(measured)
        require_forward(self.history, measured)
        measurements = (*self.history.measurements, measured)
        self.history = replace(self.history, measurements=measurements)
        self._tell_measured(measured)
        if len(self.history.growths) >= self.history.grow_steps:
            return None
        with without_autocast(self._bare):
            return self._grown_if_due(batches)

    def _grown_if_due(self, batches: Iterable[Any]) -> Growth | None:
        """Grow if the trigger says so."""
        # Batches are taken only where they are needed: a loader may be long.
        asked = self.when.asks(self.history)
        if asked is not None:
            batches = take_batches(batches, self.method)
            self._measure(asked, batches)
        # Of several processes the first decides: what they measured need not be the same.
        is_due = Ranks.of_process().decided(self.when.should_grow(self.history))
        return self._grown(batches) if is_due else None

    def state_dict(self) -> dict[str, Any]:
        """What this grower has measured, and how its model grew, as plain values (JSON).

        Save it beside the weights and the optimizer's state; ``regrow_from_state`` gives the model
        that these fit, and ``load_state_dict`` another grower that goes on.
        """
        state = GrowerState(schema_version=1, history=self.history, grown=self._grown_parts)
        return state.model_dump(mode="json")

    @checked
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as another grower would have done.

        Args:
            state: what its ``state_dict`` gave. The model has grown as it says by now.

        Raises:
            SpecError: it holds what no grower has written.
        """
        loaded = read_grower_state(state)
        self.history, self._grown_parts = loaded.history, loaded.grown

    @property
    def _bare(self) -> nn.Module:
        """The model without ``DistributedDataParallel``."""
        return unwrapped(self.model)

    def _tell_measured(self, measured: Measurement) -> None:
        rates = [optimizer.param_groups[0]["lr"] for optimizer in self.optimizers]
        event = EpochDone(
            epoch=measured.epoch,
            phase=len(self.history.growths),
            loss=measured.loss,
            lr=float(rates[0]) if rates else None,
            optimizer_step=measured.step,
            validation_loss=measured.validation_loss,
            validation_accuracy=measured.validation_accuracy,
        )
        self._tell(event)

    def _measure(self, asked: str, batches: Sequence[Any]) -> None:
        """Measure what the trigger asks for, and nobody else could tell."""
        values: dict[str, Any] = {}
        inputs = self._example_inputs(batches)
        if asked == "spectra":
            batch = self.inputs_of(batches[0])
            values["spectra"] = activation_spectra(self._bare, inputs, batch)
        else:
            values["promise"] = self._promise(batches, inputs)
        *earlier, now = self.history.measurements
        self.history = replace(self.history, measurements=(*earlier, replace(now, **values)))

    def _promise(self, batches: Sequence[Any], inputs: tuple[Any, ...]) -> Promise:
        """What a growth step on copies promises, which is thrown away."""
        options = replace(self._step_options(), inplace=False, companions=())
        try:
            growth = self._growth_step(batches, options)
        except GrowthError as error:
            if error.code != "gained-nothing":
                raise
            return Promise(0.0, 0.0)
        return promise_of(growth.report, count_examples(inputs), count_examples(batches[0]))

    def _grown(self, batches: Iterable[Any]) -> Growth | None:
        """Grow now."""
        self._require_possible()  # the optimizers have done their first steps by now
        kept, self.skipped = take_batches(batches, self.method), ""
        if self._options.inplace or self.companions:
            self._require_no_layers(kept)
        # Its number counts those that were left out, too.
        growth, step, now = None, len(self.history.growths) + 1, self.history.now
        self._tell(GrowthStarted(step, now.epoch))
        told = replace(self._step_options(), on_phase=self._tell_phase)
        try:
            growth = self._growth_step(kept, told)
        except GrowthError as error:
            if error.code != "gained-nothing":
                raise
            self.skipped = str(error)
        # One that gained nothing counts too, else a trigger would ask for it for ever.
        marks = (*self.history.growths, len(self.history.measurements))
        self.history = replace(self.history, growths=marks)
        if growth is None:
            self._tell(GrowthSkipped(step, now.epoch, self.skipped))
            return None
        report = growth.report
        parts = GrownParts(widths=report.widths, layers=report.layers, blocks=report.blocks)
        self._grown_parts = (*self._grown_parts, parts)
        self._go_on_with(growth)
        self._tell(GrowthDone(step, now.epoch, report, optimizer_step=now.step))
        return growth

    def _tell_phase(self, name: str, done: int, total: int) -> None:
        self._tell(GrowthPhase(len(self.history.growths) + 1, name, done, total))

    def _growth_step(self, batches: Sequence[Any], options: StepOptions) -> Growth:
        method, budget = self.method, self.budget
        return grow_step(
            self.model, batches, self._loss_fn, method=method, budget=budget, options=options
        )

    def _step_options(self) -> StepOptions:
        seed = self._options.seed + len(self.history.growths)  # other candidates at every step
        companions = tuple(self.companions)
        return replace(self._options, optimizers=self.optimizers, seed=seed, companions=companions)

    def _go_on_with(self, growth: Growth) -> None:
        if isinstance(growth.described, ArchitectureSpec):
            self._options = replace(self._options, history=growth.described.history)
        if growth.module is not self._bare:  # else a wrapper of it may go on
            self.model = growth.module
        rebind_schedulers(self.schedulers, self.optimizers, growth.optimizers)
        self.optimizers = growth.optimizers

    def _require_possible(self) -> None:
        """Check what can be told of optimizers, schedulers and trigger, before anything changes."""
        with plain_inside(self._bare, self.optimizers):
            require_block_candidates(self._bare, self.method, self.budget, self._options)
            self._options.treatment.require(self.optimizers, self._bare)
        require_gains_of(self.method, self.when)
        inplace = self._options.inplace
        require_rebindable(self.schedulers, self.optimizers, inplace=inplace)

    def _require_no_layers(self, batches: Sequence[Any]) -> None:
        """Check that no layer would be inserted: the model would have to become a graph."""
        if not getattr(self.method, "layers", 0) and self.budget.layers is None:
            return
        inputs = self._example_inputs(batches)
        with plain_inside(self._bare):
            proposal = self.method.propose(couple(capture(self._bare, inputs)))
        if proposal.layers is not None:
            raise GrowthError(
                "companion-layers",
                f"{type(self.method).__name__} inserts layers, which makes another module of the "
                "model and leaves followers behind; say inplace=False and let nothing follow, or "
                "grow widths alone",
            )

    @checked
    def inputs_of(self, batch: Any) -> tuple[Any, ...]:
        """The positional arguments of the model that a growth batch gives it.

        Args:
            batch: an (input, target) pair, or what the ``BatchLoss`` takes.

        Raises:
            DataError: ``bad-batch``: it is neither.
        """
        if isinstance(self._loss_fn, BatchLoss):
            return record_calls(self._bare, self._loss_fn, batch).arguments[0]
        return positional_inputs(self._bare, input_and_target(batch)[0])

    def _example_inputs(self, batches: Sequence[Any]) -> tuple[Any, ...]:
        given = self._options.example_inputs
        if given is not None:
            return positional_inputs(self._bare, given)
        return self.inputs_of(batches[0])
