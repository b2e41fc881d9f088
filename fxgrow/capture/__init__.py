"""Capture: from any nn.Module to a torch.fx graph that holds the same parameters, and a report of how."""

from fxgrow.capture.capture import capture, verify
from fxgrow.capture.inputs import moved, positional
from fxgrow.capture.parts import Captured, How, PartReport, first_line

__all__ = ["Captured", "How", "PartReport", "capture", "first_line", "moved", "positional", "verify"]
