"""``fxgrow continual``: a network that learns task after task; one file per command."""
