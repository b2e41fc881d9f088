"""Surgery on modules: parameters change size in place, and all that repeats their sizes follows.

Public is what ``__all__`` lists. What happens to one axis is data: a ``Change`` of a width gives a
``Placement`` and that an ``IndexMap`` (``placement``, ``axis_map``, ``run_starts``,
``reshape_along``). ``resize`` carries maps out on parameters, buffers, gradients and an optimizer's
state (``apply_maps`` on one tensor), the latter by the rule of a ``StateTreatment``, which says
beforehand whether the state can follow; ``follow_ages`` attaches what some rules do in every step.
``restore_on_failure`` takes it all back if anything fails. ``listed_optimizers`` are the one or
several that share a model out, and ``join_groups`` lets them train what is new. Entries start from
``random_entries`` or ``carrier_entries``. ``sync_size_attributes`` and ``update_config`` bring
attributes and a Hugging Face style config in line with the new shapes, ``update_depth`` one with
new blocks, ``update_labels`` one with new classes; ``axes_by_config`` says what gets longer with a
vocabulary, ``expert_tensors`` what with more experts.
"""

from fxgrow.surgery.attributes import (
    NORM_TYPES,
    ROW_NORM_TYPES,
    has_size_attributes,
    require_sizes_of_torch,
    set_integer,
    sync_size_attributes,
    weight_norm_hooks,
)
from fxgrow.surgery.config import (
    ConfigUpdate,
    config_paths,
    model_outputs,
    parameter_shapes,
    update_config,
)
from fxgrow.surgery.config_depth import DepthChange, update_depth
from fxgrow.surgery.config_experts import ExpertTensors, expert_tensors, update_experts
from fxgrow.surgery.config_rows import axes_by_config, update_labels
from fxgrow.surgery.config_search import is_config
from fxgrow.surgery.entry_ages import NewEntryRate, follow_ages
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
from fxgrow.surgery.several_optimizers import (
    GivenOptimizers,
    Optimizers,
    WithOptimizers,
    join_groups,
    listed_optimizers,
    only_optimizer,
    sort_groups,
)
from fxgrow.surgery.state_rules import (
    DEFAULT_STATE,
    DEFAULT_TREATMENT,
    SCARCE,
    STATE_NAMES,
    STATE_RULES,
    StateRuleName,
    StateTreatment,
)
from fxgrow.surgery.weight_norm import KeptNorms, normalized_weights

__all__ = [
    "DEFAULT_STATE",
    "DEFAULT_TREATMENT",
    "NEW_INDEX",
    "NORM_TYPES",
    "ROW_NORM_TYPES",
    "SCARCE",
    "STATE_NAMES",
    "STATE_RULES",
    "Change",
    "ConfigUpdate",
    "DepthChange",
    "ExpertTensors",
    "GivenOptimizers",
    "IndexMap",
    "IntArray",
    "KeptNorms",
    "Maps",
    "NewEntryRate",
    "Optimizers",
    "Placement",
    "StateRuleName",
    "StateTreatment",
    "WithOptimizers",
    "apply_maps",
    "axes_by_config",
    "axis_map",
    "carrier_entries",
    "config_paths",
    "expert_tensors",
    "follow_ages",
    "has_size_attributes",
    "is_config",
    "join_groups",
    "listed_optimizers",
    "model_outputs",
    "named_tensors",
    "normalized_weights",
    "only_optimizer",
    "parameter_shapes",
    "placement",
    "random_entries",
    "require_sizes_of_torch",
    "reshape_along",
    "resize",
    "restore_on_failure",
    "run_starts",
    "set_integer",
    "sort_groups",
    "sync_size_attributes",
    "update_config",
    "update_depth",
    "update_experts",
    "update_labels",
    "weight_norm_hooks",
]
