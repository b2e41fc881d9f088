"""``python -m fxgrow.cli`` is ``fxgrow``."""

from fxgrow.cli.main import app

app(prog_name="fxgrow")
