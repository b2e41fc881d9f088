"""Image data sets that need no download: ``load_data`` by name, ``batches`` to iterate over.

Where things are: ``sources`` the table of data sets, ``digits``, ``shapes`` and ``folders`` one
family of sources each, ``sets`` the classes for images and labels in memory, ``request`` the
options of ``load_data``, ``memory`` the check that the images fit. ``files``, ``pictures`` and
``pickles`` read files that may be hostile.
"""

from fxgrow.data.sets import Batches, DataSet, Splits, batches
from fxgrow.data.sources import SOURCES, load_data, require_root_is_read

__all__ = [
    "SOURCES",
    "Batches",
    "DataSet",
    "Splits",
    "batches",
    "load_data",
    "require_root_is_read",
]
