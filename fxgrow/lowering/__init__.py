"""Lowering: fused attention becomes explicit projections, so that its heads can grow."""

from fxgrow.lowering.lower import LOWERINGS, lower

__all__ = ["LOWERINGS", "lower"]
