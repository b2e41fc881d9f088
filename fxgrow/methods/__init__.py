"""Ways to choose what to grow: Firefly descent and its rivals, one file or folder each, all behind growth.Method."""

from fxgrow.methods.firefly import Firefly
from fxgrow.methods.random import RandomGrowth

__all__ = ["Firefly", "RandomGrowth"]
