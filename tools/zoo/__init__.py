"""Tables of real models that fxgrow is tried on: random weights, nothing is downloaded.

One module per zoo (``torchvision_zoo``, ``timm_zoo``, ``hf_zoo``), each with a table ``ROWS``.
"""

from tools.zoo.row import Row, images

__all__ = ["Row", "images"]
