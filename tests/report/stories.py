"""Runs as their logs tell them: of known numbers, for tests of what is shown."""

from typing import Any

from fxgrow.report import RunStory
from fxgrow.spec import LayerInsertion, WidthChange
from fxgrow.training import EndRow, EpochRow, GrowthRow, SkippedRow, StartRow, StoppedRow
from fxgrow.training.log_rows import BoughtRow, LogRow, MomentRow, SpendingRow

EVIL = "</style><script>alert(1)</script><img src=x onerror=alert(2)>$x^2$"


def growth(step: int = 1, epoch: int = 2, **changes: Any) -> GrowthRow:
    values: dict[str, Any] = {
        "step": step, "epoch": epoch, "loss_before": 1.0, "loss_after": 0.9, "params": 1500, "params_before": 1000,
        "split": 1, "new": 2, "seconds": 4.0, "test_accuracy": 0.5, "test_loss_before": 1.25, "test_loss_after": 1.125,
        "test_loss_trained": 1.0, "trained_steps": 7, "held_out_before": 1.0, "held_out_after": 0.9375,
        "faithful_error": 1e-7, "preservation_error": 2e-7, "backtracks": 1, "multiply_adds": 30, "multiply_adds_before": 20,
        "timings": {"search": 3.0, "emit": 0.9, "couple": 0.1},
        "widths": (WidthChange(width="conv1", before=4, after=7, split=1, new=2, scores=(0.5, 0.25, 0.125)),),
        "layers": (LayerInsertion(name="grown_layers.relu", after="relu", score=0.5, neurons=3),),
        "refusals": {"fc": "output", "bn": "norm", "b2": "norm"}, "optimizer_step": 20,
        "bought": (BoughtRow(width="conv1", split=1, new=2, score=0.875, cost={"parameters": 400.0}),),
        "spending": {"parameters": SpendingRow(present=1000.0, limit=600.0, spent=500.0)},
        "remarks": ("100 parameters are left",),
    }  # fmt: skip
    return GrowthRow(**{**values, **changes})


def epochs(count: int, phases: tuple[int, ...], **changes: Any) -> tuple[EpochRow, ...]:
    rows = []
    for number in range(1, count + 1):
        values: dict[str, Any] = {
            "epoch": number, "phase": phases[number - 1], "loss": 2.0 / number, "test_accuracy": 0.1 * number, "lr": 0.1,
            "seconds": 2.0, "optimizer_step": 10 * number, "test_loss": 2.5 / number,
        }  # fmt: skip
        rows.append(EpochRow(**{**values, **changes}))
    return tuple(rows)


START = StartRow(
    settings={"seed": 3, "epochs": 4}, batches_per_epoch=10, parameters=1000, multiply_adds=20
)
END = EndRow(
    epoch=4,
    before=MomentRow(parameters=1000, train_loss=1.0, train_accuracy=0.25, test_loss=1.25, test_accuracy=0.2),
    after=MomentRow(parameters=1500, train_loss=0.5, train_accuracy=0.5, test_loss=0.625, test_accuracy=0.5),
)  # fmt: skip
STORY = RunStory.of([START, *epochs(4, (0, 0, 1, 1)), growth(), END])
STOPPED = StoppedRow(epoch=4, patience=1, growth_steps_left=2)
SKIPPED = SkippedRow(step=2, epoch=3, reason="gained nothing")
AVERAGES: dict[str, Any] = {"average_loss": 0.75, "average_accuracy": 0.375}


def averaged(publish: bool, *more: LogRow) -> RunStory:
    """The same with a moving average that is better than the weights, 37.5 % until the end."""
    settings = {**START.settings, "ema": {"decay": 0.9, "publish": publish}}
    start = START.model_copy(update={"settings": settings})
    rows = epochs(4, (0, 0, 1, 1), **AVERAGES)
    return RunStory.of([start, *rows, growth(**AVERAGES), *more])


OWN_LOOP = RunStory.of(
    [
        *epochs(
            3, (0, 0, 1), test_accuracy=None, test_loss=None, seconds=None, validation_loss=1.0
        ),
        growth(
            test_loss_before=None, test_loss_after=None, test_loss_trained=None, test_accuracy=None
        ),
    ]
)
"""Of a ``Grower``: nobody says when it starts or ends, or measures on test images."""


def hostile() -> RunStory:
    """The same with markup, mathematics and long names in every word that a log can bring."""
    long = EVIL + "a.very.long.path" * 20
    row = growth(
        widths=(WidthChange(width=long, before=4, after=7, new=3, scores=(0.5,)),),
        layers=(LayerInsertion(name=long, after=long, score=0.5, neurons=3),),
        refusals={long: EVIL, EVIL: EVIL},
        bought=(BoughtRow(width=long, split=0, new=3, score=0.5, cost={EVIL: 1.0}),),
        spending={EVIL: SpendingRow(present=1.0, limit=1.0, spent=1.0)},
        timings={EVIL: 1.0, long: 1.0},
        remarks=(EVIL,), batches=EVIL, picked=EVIL,
    )  # fmt: skip
    start = START.model_copy(update={"settings": {"seed": EVIL}})
    skipped = SKIPPED.model_copy(update={"reason": EVIL})
    return RunStory.of([start, *epochs(4, (0, 0, 1, 1)), row, skipped])
