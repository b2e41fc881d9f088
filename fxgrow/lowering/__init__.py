"""Lowering: fused attention becomes explicit projections, so that its heads can grow."""

from fxgrow.deprecation import renamed_attributes
from fxgrow.lowering.lower import LOWERINGS, lower

__all__ = ["LOWERINGS", "lower"]

# Old names, which go with the next version.
__getattr__ = renamed_attributes(
    __name__,
    {
        "ROWS": "LOWERINGS",
    },
)
