"""``fxgrow cells``: what is done with the genotypes of cells; one file per command."""
