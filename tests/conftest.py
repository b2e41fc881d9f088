"""One thread per test process: the networks are tiny, and threads only fight over the cores."""

import torch

torch.set_num_threads(1)
