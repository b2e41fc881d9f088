"""Data sets that need no download: ``load_data`` by name, ``batches`` to iterate over."""

from fxgrow.data.sets import Batches, DataSet, Splits, batches
from fxgrow.data.sources import SOURCES, load_data

__all__ = ["SOURCES", "Batches", "DataSet", "Splits", "batches", "load_data"]
