"""Growth methods: Firefly descent and what it is compared with, all behind ``growth.Method``.

- ``auto``: the default, which picks one of the others.
- ``default``: that one, or Firefly descent where blocks may grow.
- ``firefly``: Firefly descent (Wu et al. 2020).
- ``splitting``: splitting steepest descent (Liu et al. 2019).
- ``fast_splitting``: the same without splitting matrices (Wang et al. 2019).
- ``gradmax``: new neurons with the largest gradient (Evci et al. 2022).
- ``tiny``: new neurons for what a layer cannot express (Verbockhaven et al. 2024).
- ``net2wider``: random copies of neurons (Chen et al. 2016).
- ``variance_transfer``: pairs of new neurons that cancel out (Yuan et al. 2023).
- ``zero_outgoing``: new neurons with outgoing weights of 0, without a search.
- ``pool``: new neurons of that kind, chosen from a pool by one backward pass.
- ``net2deeper``: identity layers at random places (Chen et al. 2016).
- ``network_morphism``: random morphisms of width and depth (Wei et al. 2016).
- ``nash``: the best of some random children after a brief training (Elsken et al. 2017).
- ``autogrow``: one layer more per growth (Wen et al. 2020).
- ``random``: random growth, a control.
- ``scratch``: the grown structure trained from new weights, another control.
- ``registry``: the methods by name, including those of other installed packages.
- ``catalog``: the reference, equation and cost of each, for ``fxgrow methods`` and the page.

To add a method, write one file here and a row in ``registry.METHODS``, or declare an entry point of
the group ``fxgrow.methods`` in a package of your own.
"""

from fxgrow.methods.auto import Auto
from fxgrow.methods.autogrow import AutoGrow
from fxgrow.methods.catalog import CATALOG, MethodRow
from fxgrow.methods.config import MethodConfig
from fxgrow.methods.default import default_method
from fxgrow.methods.fast_splitting import FastSplitting
from fxgrow.methods.firefly import Firefly
from fxgrow.methods.gradmax import GradMax
from fxgrow.methods.nash import NASH
from fxgrow.methods.net2deeper import Net2Deeper
from fxgrow.methods.net2wider import Net2Wider
from fxgrow.methods.network_morphism import NetworkMorphism
from fxgrow.methods.pool import GradientPool
from fxgrow.methods.random import RandomGrowth
from fxgrow.methods.registry import METHODS, available_methods, find_method
from fxgrow.methods.scratch import from_scratch
from fxgrow.methods.splitting import Splitting
from fxgrow.methods.tiny import TINY
from fxgrow.methods.variance_transfer import VarianceTransfer
from fxgrow.methods.zero_outgoing import ZeroOutgoing

__all__ = [
    "CATALOG",
    "METHODS",
    "NASH",
    "TINY",
    "Auto",
    "AutoGrow",
    "FastSplitting",
    "Firefly",
    "GradMax",
    "GradientPool",
    "MethodConfig",
    "MethodRow",
    "Net2Deeper",
    "Net2Wider",
    "NetworkMorphism",
    "RandomGrowth",
    "Splitting",
    "VarianceTransfer",
    "ZeroOutgoing",
    "available_methods",
    "default_method",
    "find_method",
    "from_scratch",
]
