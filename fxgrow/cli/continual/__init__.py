"""``fxgrow continual``: learn task after task; one file per command."""
