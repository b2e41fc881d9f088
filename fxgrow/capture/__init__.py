"""Capture: from any nn.Module to a torch.fx graph of its own parameters, and a report of how."""

from fxgrow.capture.capture import capture, verify_capture
from fxgrow.capture.inputs import move_to, positional_inputs
from fxgrow.capture.interpreter import Interpreter
from fxgrow.capture.parts import Captured, How, PartReport, first_line
from fxgrow.capture.running import output_leaves, preserve_state
from fxgrow.deprecation import renamed_attributes

__all__ = [
    "Captured",
    "How",
    "Interpreter",
    "PartReport",
    "capture",
    "first_line",
    "move_to",
    "output_leaves",
    "positional_inputs",
    "preserve_state",
    "verify_capture",
]

# Old names, which go with the next version.
__getattr__ = renamed_attributes(
    __name__,
    {
        "moved": "move_to",
        "positional": "positional_inputs",
        "verify": "verify_capture",
    },
)
