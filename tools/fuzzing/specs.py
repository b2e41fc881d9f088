"""Damaged saved models: each loads to what its fingerprint says, or gives a SpecError."""

import traceback
from pathlib import Path

from fxgrow.errors import SpecError
from fxgrow.spec import load, spec_of
from fxgrow.spec.build import fingerprint_of
from tools.fuzzing.mutations import Mutant
from tools.fuzzing.verdicts import LOADED, OTHER, Verdict, said

# Which function of a load raised: the innermost stage last.
STAGES = {
    "check_faithful": "description",
    "rebuild_module": "build",
    "read": "weights",
    "check_spec": "check",
}


def stage_of(error: BaseException) -> str:
    """The stage of loading in which an error was raised."""
    names = {frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)}
    return next((stage for name, stage in STAGES.items() if name in names), "reading")


def judge(made: Mutant, directory: Path) -> Verdict:
    """What became of loading one mutant."""
    (directory / "config.json").write_bytes(made.config)
    (directory / "model.safetensors").write_bytes(made.weights)
    try:
        model = load(directory)
        spec = spec_of(model)
        same = fingerprint_of(model, spec.inputs) == spec.fingerprint
    except SpecError as error:
        return Verdict("refused" if error.path else "no path", error.code, stage_of(error))
    except BaseException as error:  # noqa: BLE001  # to find these is what this is for
        return Verdict("other exception", said(error), stage_of(error))
    return LOADED if same else OTHER
