"""One thread per test process: the networks are tiny, and threads only fight over the cores.

On CI (the variable CI is set) hypothesis draws the same examples every time; elsewhere it goes on searching.
"""

import os

import torch
from hypothesis import settings

settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

torch.set_num_threads(1)
