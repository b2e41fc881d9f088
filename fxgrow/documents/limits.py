"""How much a document may claim: every bound in one place; ``docs/threat-model.md`` lists the same.

The bounds are far above what real models need (a ResNet-152 has 517 nodes and 15,000 values), and
low enough that the time and memory of a refusal are limited by them and not by what a file claims.
"""

# Specifications.

CONFIG_BYTES = 64 * 2**20
"""Bytes of config.json."""
VALUES = 2**20
"""JSON values in config.json; commas and opening brackets are counted before it is parsed."""
DEPTH = 64
"""Levels of nesting in config.json."""
ENTRIES = 2**15
"""Entries of each list: nodes, modules, parameters, buffers, widths and growth steps."""
NAME = 512
"""Characters of a name or a path to a module or tensor; so at most 256 modules are nested."""
AXES = 32
"""Axes of a tensor."""
ELEMENTS = 2**48
"""Product of a tensor's sizes, those of 0 left out, so that no stride overflows."""
INPUT_BYTES = 2**31
"""Bytes of all example inputs together: ``check`` and ``inspect`` allocate them."""
SCORE = 1e300
"""Absolute value of a score, so that a sum of scores is finite."""
NEURONS = 2**17
"""Neurons that one growth step adds to one width or layer.

Replay does what the history says, and no fingerprint covers the history.
"""
BLOCKS = 2**12
"""Blocks of a list that a growth step made longer; replay copies as many as it tells."""
READERS = 2**18
"""Reads of values before they are written in place, per write; the fingerprint sorts them."""
MESSAGE = 300
"""Characters of another library's message that an error repeats."""

# Recipes, and the model references in them.

YAML_CHARACTERS = 64 * 2**10
"""Characters of a recipe; its parser is slow, and what people write by hand is short."""
YAML_VALUES = 2**12
"""Values and keys in a recipe."""
REFERENCE = 2**12
"""Characters of a model reference."""
OPTION_VALUES = 64
"""Numbers in one option of a model reference."""
OPTION_COUNT = 2**10
"""Layers, heads or groups that an option of a model reference asks for."""
OPTION_WINDOW = 2**6
"""Side of a window or kernel in an option: position tables grow with its fourth power."""
OPTION_LENGTH = 2**14
"""Side of an image or length of a text, in options and in ``input=``."""
OPTION_SIZE = 2**20
"""Widths, classes, words and real numbers in options."""
INPUT_ELEMENTS = 2**28
"""Elements of all example inputs that a model reference asks for."""
WIDTH_FACTOR = 64
"""The ``width=`` of a model reference."""
EPOCHS = 2**20
"""Epochs of training."""
TRAINING_STEPS = 2**40
"""Number of the step of the optimizer at which a run grows."""
GROWTH_STEPS = 2**12
"""Growth steps of a run."""
THREADS = 2**10
"""Threads that a stopped run goes on with."""
BATCH = 2**20
"""Images of a batch."""
BATCHES = 2**16
"""Batches that decide what grows."""
IMAGES = 2**24
"""Training images."""
SIDE = 2**12
"""Side of an image."""
CLASSES = 2**16
"""Classes of a data set."""
PIXELS = 2**32
"""Numbers in all training images together: images x channels x side x side."""
STEPS = 2**16
"""Optimization steps, rounds, draws and points over the candidates of one growth step, each."""
CANDIDATES = 2**12
"""New neurons to try, per width or layer."""
RATE = 1e9
"""Learning rates, penalties and radii."""
MEMORY = 2**60
"""Bytes that a step over the candidates may keep."""
AMOUNT = 2**53
"""What a budget allows, in any unit."""
