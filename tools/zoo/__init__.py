"""Tables of real models that fxgrow is tried on: random weights, nothing is downloaded.

One module per zoo (``torchvision_zoo``, ``timm_zoo``, ``hf_zoo``), each with a table ``ROWS``. Importing a table imports
no model library: a row's factory does that.
"""

from tools.zoo.row import Row, images

__all__ = ["Row", "images"]
