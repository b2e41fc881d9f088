"""Growth inside the trainers of other libraries; each module needs its library installed.

- ``lightning``: a callback for Lightning's ``Trainer``.
- ``transformers``: a callback for Hugging Face's ``Trainer``.

Accelerate needs none: ``examples/accelerate_loop.py``.
"""
