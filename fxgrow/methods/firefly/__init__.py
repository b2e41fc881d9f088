"""Firefly neural architecture descent.

Reference: Wu, Liu, Stone, Liu, "Firefly Neural Architecture Descent", NeurIPS 2020, sections 2.1
and 2.2, Eqs. 3 to 5. How we differ: eps and delta are in units of the layer's own weights; a split
is symmetric in eps, so its sign is not chosen, and a split that would raise the loss ranks below
one that does nothing; the step is halved until the loss does not rise (``growth.backtrack``).

``method`` holds the settings and the order of the steps, ``neighborhood`` the start and the
constraints of Eq. 3, ``relax`` step one (Eq. 4), ``importance`` step two (Eq. 5).
"""

from fxgrow.methods.firefly.method import Firefly

__all__ = ["Firefly"]
