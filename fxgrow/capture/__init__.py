"""Capture: from an nn.Module to a torch.fx graph that calls the same modules."""

from fxgrow.capture.capture import Captured, PartReport, capture, first_line

__all__ = ["Captured", "PartReport", "capture", "first_line"]
