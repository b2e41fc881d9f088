"""Growth methods: Firefly descent and what it is compared with, all behind ``growth.Method``.

- ``firefly``: Firefly descent (Wu et al. 2020).
- ``splitting``: splitting steepest descent (Liu et al. 2019).
- ``random``: random growth, a control.
- ``scratch``: the grown structure trained from new weights, another control.
- ``registry``: the methods by name, including those of other installed packages.

To add a method, write one file here and a row in ``registry.METHODS``, or declare an entry point of
the group ``fxgrow.methods`` in a package of your own.
"""

from fxgrow.methods.config import MethodConfig
from fxgrow.methods.firefly import Firefly
from fxgrow.methods.random import RandomGrowth
from fxgrow.methods.registry import METHODS, available_methods, find_method
from fxgrow.methods.scratch import from_scratch
from fxgrow.methods.splitting import Splitting

__all__ = [
    "METHODS",
    "Firefly",
    "MethodConfig",
    "RandomGrowth",
    "Splitting",
    "available_methods",
    "find_method",
    "from_scratch",
]
