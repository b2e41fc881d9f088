"""How much a specification may claim: every bound in one place. ``docs/threat-model.md`` lists the same.

Far above what real models need (a ResNet-152 has 517 nodes and 15,000 values), and low enough that the time and the
memory a refusal takes are bounded by them and not by what the file says.
"""

CONFIG_BYTES = 64 * 2**20
"""Of config.json."""
VALUES = 2**20
"""JSON values in config.json: commas and opening brackets are counted before it is parsed."""
DEPTH = 64
"""Levels of nesting in config.json."""
ENTRIES = 2**15
"""Nodes, modules, parameters, buffers, widths and growth steps, each."""
NAME = 512
"""Characters of a name or a path to a module or tensor, so at most 256 modules inside each other."""
AXES = 32
"""Axes of a tensor."""
ELEMENTS = 2**48
"""The product of a tensor's sizes, those of 0 left out, so that no stride overflows."""
INPUT_BYTES = 2**31
"""All example inputs together: ``check`` and ``inspect`` allocate them."""
SCORE = 1e300
"""The size of a score, so that a sum of them is finite."""
NEURONS = 2**17
"""That one growth step adds to one width or layer: replay does what the history says, which no fingerprint covers."""
READERS = 2**18
"""Reads of values before they are written in place, counted once per write: what the fingerprint has to sort."""
MESSAGE = 300
"""Characters of another library's message that an error repeats."""
