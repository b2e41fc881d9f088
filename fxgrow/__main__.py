"""``python -m fxgrow`` is ``fxgrow``, for launchers that take a module (``torchrun -m fxgrow``)."""

import runpy

runpy.run_module("fxgrow.cli", run_name="__main__")
