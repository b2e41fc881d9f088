"""Capture: from any nn.Module to a torch.fx graph of its own parameters, and a report of how."""

from fxgrow.capture.admission import require_growable_model
from fxgrow.capture.capture import capture, verify_capture
from fxgrow.capture.hooks import HOOKS_LEFT_OUT, UNTRACED_HOOK
from fxgrow.capture.in_place import writes_in_place
from fxgrow.capture.inputs import bind_call, move_to, positional_inputs
from fxgrow.capture.interpreter import Interpreter
from fxgrow.capture.method_parts import MethodPart
from fxgrow.capture.outputs import direct_tensors, output_leaves
from fxgrow.capture.own_code import is_symbolic, own_code_graph
from fxgrow.capture.parts import Captured, How, PartReport, first_line
from fxgrow.capture.running import preserve_attributes, preserve_state, run_model, same_outputs
from fxgrow.capture.tracer import drop_unused
from fxgrow.deprecation import renamed_attributes

__all__ = [
    "HOOKS_LEFT_OUT",
    "UNTRACED_HOOK",
    "Captured",
    "How",
    "Interpreter",
    "MethodPart",
    "PartReport",
    "bind_call",
    "capture",
    "direct_tensors",
    "drop_unused",
    "first_line",
    "is_symbolic",
    "move_to",
    "output_leaves",
    "own_code_graph",
    "positional_inputs",
    "preserve_attributes",
    "preserve_state",
    "require_growable_model",
    "run_model",
    "same_outputs",
    "verify_capture",
    "writes_in_place",
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
