"""Surgery on modules: IndexMaps carried out on parameters, buffers, attributes, gradients and optimizer state."""

from fxgrow.surgery.attributes import NORM_TYPES, has_size_attributes, sync_size_attributes
from fxgrow.surgery.config import ConfigUpdate, parameter_shapes, update_config
from fxgrow.surgery.index_map import (
    NEW_INDEX,
    Change,
    IndexMap,
    IntArray,
    Placement,
    axis_map,
    placement,
    reshape_along,
    run_starts,
)
from fxgrow.surgery.new_entries import carrier_entries, random_entries
from fxgrow.surgery.resize import Maps, apply_maps, named_tensors, resize
from fxgrow.surgery.rollback import restore_on_failure

__all__ = [
    "NEW_INDEX",
    "NORM_TYPES",
    "Change",
    "ConfigUpdate",
    "IndexMap",
    "IntArray",
    "Maps",
    "Placement",
    "apply_maps",
    "axis_map",
    "carrier_entries",
    "has_size_attributes",
    "named_tensors",
    "parameter_shapes",
    "placement",
    "random_entries",
    "reshape_along",
    "resize",
    "restore_on_failure",
    "run_starts",
    "sync_size_attributes",
    "update_config",
]
