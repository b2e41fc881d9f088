"""Ways to choose what to grow: Firefly descent and its rivals, one file or folder each, all behind growth.Method."""

from fxgrow.methods.firefly import Firefly
from fxgrow.methods.random import RandomGrowth
from fxgrow.methods.scratch import from_scratch
from fxgrow.methods.splitting import Splitting

__all__ = [
    "Firefly",
    "RandomGrowth",
    "Splitting",
    "from_scratch",
]
