"""Growth methods: Firefly descent and what it is compared with, all behind ``growth.Method``.

- ``auto``: the default, which picks one of the others.
- ``firefly``: Firefly descent (Wu et al. 2020).
- ``splitting``: splitting steepest descent (Liu et al. 2019).
- ``zero_outgoing``: new neurons with outgoing weights of 0, without a search.
- ``pool``: new neurons of that kind, chosen from a pool by one backward pass.
- ``net2deeper``: identity layers at random places (Chen et al. 2016).
- ``network_morphism``: random morphisms of width and depth (Wei et al. 2016).
- ``nash``: the best of some random children after a brief training (Elsken et al. 2017).
- ``autogrow``: one layer more per growth (Wen et al. 2020).
- ``random``: random growth, a control.
- ``scratch``: the grown structure trained from new weights, another control.
- ``registry``: the methods by name, including those of other installed packages.

To add a method, write one file here and a row in ``registry.METHODS``, or declare an entry point of
the group ``fxgrow.methods`` in a package of your own.
"""

from fxgrow.methods.auto import Auto
from fxgrow.methods.autogrow import AutoGrow
from fxgrow.methods.config import MethodConfig
from fxgrow.methods.firefly import Firefly
from fxgrow.methods.nash import NASH
from fxgrow.methods.net2deeper import Net2Deeper
from fxgrow.methods.network_morphism import NetworkMorphism
from fxgrow.methods.pool import GradientPool
from fxgrow.methods.random import RandomGrowth
from fxgrow.methods.registry import METHODS, available_methods, find_method
from fxgrow.methods.scratch import from_scratch
from fxgrow.methods.splitting import Splitting
from fxgrow.methods.zero_outgoing import ZeroOutgoing

__all__ = [
    "METHODS",
    "NASH",
    "Auto",
    "AutoGrow",
    "Firefly",
    "GradientPool",
    "MethodConfig",
    "Net2Deeper",
    "NetworkMorphism",
    "RandomGrowth",
    "Splitting",
    "ZeroOutgoing",
    "available_methods",
    "find_method",
    "from_scratch",
]
