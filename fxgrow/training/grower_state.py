"""What a ``Grower`` is saved as: what it measured, and how its model grew.

Weights that were saved after a growth step fit into the model of the start once that has grown
again in the same way: the state says how, whoever saves and loads the weights.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ConfigDict
from torch import nn

from fxgrow.argument_checks import checked
from fxgrow.capture import positional_inputs
from fxgrow.documents import Document, StrictModel
from fxgrow.errors import SpecError
from fxgrow.growth import regrow
from fxgrow.sharding import require_unsharded
from fxgrow.spec import BlockInsertion, LayerInsertion, WidthChange
from fxgrow.training.history import TrainingHistory


class GrownParts(StrictModel):
    """What one growth step did to an architecture.

    Args:
        widths: the widths that grew.
        layers: the layers that were inserted.
        blocks: the lists of blocks that got longer.
    """

    widths: tuple[WidthChange, ...] = ()
    layers: tuple[LayerInsertion, ...] = ()
    blocks: tuple[BlockInsertion, ...] = ()


class GrowerState(StrictModel):
    """A ``Grower`` between two of its steps.

    Args:
        schema_version: version of the document.
        history: what was measured, and where growth steps lie.
        grown: what each of them did.
    """

    # The loss of training that diverged is no number.
    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="constants")

    schema_version: Literal[1]
    history: TrainingHistory
    grown: tuple[GrownParts, ...] = ()


def parse_constants(text: str) -> Any:
    """JSON with NaN and infinities."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError("bad-json", f"it is not JSON ({error}); give a state_dict()") from error


# Its own version, so that states that were saved can be migrated.
_DOCUMENT = Document("state of a grower", GrowerState, 1, parse=parse_constants)


def read_grower_state(state: Mapping[str, Any]) -> GrowerState:
    """Check what ``Grower.state_dict`` gave, after whatever happened to it since.

    Args:
        state: plain values.

    Returns:
        The state.

    Raises:
        SpecError: a field is missing, unknown, or holds what no grower has written.
    """
    try:
        text = json.dumps(dict(state))
    except (TypeError, ValueError, RecursionError) as error:
        raise SpecError(
            "bad-value", f"the state of a grower holds plain values only ({error})"
        ) from error
    # As a file of ours is: whoever saved it may have saved it anywhere.
    read = _DOCUMENT.read(text)
    contradiction = read.history.contradiction
    if not contradiction and len(read.grown) > len(read.history.growths):
        contradiction = "it has grown more often than it has growth steps"
    if contradiction:
        raise SpecError("bad-value", f"{contradiction}; give a state_dict()", "history")
    return read


@checked
def regrow_from_state(model: nn.Module, state: Mapping[str, Any], example_inputs: Any) -> nn.Module:
    """Let a model grow again as a ``Grower`` let it grow, for weights that are loaded afterwards.

    Args:
        model: as it was before the first growth step; it is changed in place. Its weights become
            copies and zeros.
        state: what ``Grower.state_dict`` gave.
        example_inputs: arguments of the model, in one of the forms of ``fxgrow.grow``.

    Returns:
        The model; a graph module if layers were inserted.

    Raises:
        SpecError: the state is none, or not of this model (``not-replayable``).
        ModelError: the model does not run on its example inputs.

    Example:
        >>> state = torch.load("checkpoint.pt")
        >>> model = regrow_from_state(Net(), state["grower"], inputs)
        >>> model.load_state_dict(state["model"])
    """
    require_unsharded(model)
    return regrow(model, positional_inputs(model, example_inputs), read_grower_state(state).grown)
