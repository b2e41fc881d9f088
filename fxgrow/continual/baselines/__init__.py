"""Baselines of continual learning: other ways to learn task after task than a growing network.

Each is a module of its own that opens with its paper; ``fxgrow.continual.registry`` lists them.
"""
