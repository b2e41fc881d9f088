"""``python -m fxgrow`` is ``fxgrow``, for launchers that take a module (``torchrun -m fxgrow``)."""

from fxgrow.cli.main import app

# Without a name, messages would call the program ``__main__.py``.
app(prog_name="fxgrow")
