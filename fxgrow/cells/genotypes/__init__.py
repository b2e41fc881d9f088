"""Genotypes by name, as published, and in the form of the literature."""
