"""``fxgrow cells``: search, derive, draw and train cells; one file per command."""
