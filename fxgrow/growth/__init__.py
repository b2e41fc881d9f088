"""The growth pipeline, ignorant of which method runs."""

from fxgrow.deprecation import renamed_attributes
from fxgrow.growth.batch_roles import BatchRoles, assign_roles, take_batches
from fxgrow.growth.batches import BatchLoss, input_and_target, record_calls
from fxgrow.growth.block_growth import require_block_candidates
from fxgrow.growth.budget import Budget, ResolvedBudget, resolve_budget
from fxgrow.growth.candidate_counts import with_candidates_for_budget
from fxgrow.growth.classes import grow_classes
from fxgrow.growth.companions import require_alike
from fxgrow.growth.cost_models import UNITS
from fxgrow.growth.data_parallel import unwrapped
from fxgrow.growth.deepen import Deepened, deepen
from fxgrow.growth.described import DescribedModel, described_model
from fxgrow.growth.emit import ParameterUpdate, emit
from fxgrow.growth.experts import grow_experts
from fxgrow.growth.grow_to import Expanded, grow_to
from fxgrow.growth.invariants import backtrack, full_precision, require_close
from fxgrow.growth.materialize import parameter_updates, width_changes
from fxgrow.growth.method import (
    Method,
    Picked,
    Proposal,
    Scores,
    SelectFunction,
    needs_one_process,
    predicts_gain,
)
from fxgrow.growth.mixture import MixtureOfExperts
from fxgrow.growth.new_rows import Extended
from fxgrow.growth.objective import Batch, LossFunction, Objective, gradients_of
from fxgrow.growth.output_layer import HEAD_TYPES, find_head
from fxgrow.growth.plan import Plan, PlanRow, Spending
from fxgrow.growth.prepare import PreparedModel
from fxgrow.growth.replay import regrow, replay
from fxgrow.growth.result import Growth, GrowthReport
from fxgrow.growth.scale import reinitialize, scale_widths
from fxgrow.growth.scope import ALL_WIDTHS, Scope, block_patterns
from fxgrow.growth.search import SearchResult, search
from fxgrow.growth.select import Selection, select
from fxgrow.growth.statistics import (
    estimate_statistics,
    frozen_statistics,
    refresh_statistics,
)
from fxgrow.growth.step import check_step, grow_step
from fxgrow.growth.step_options import StepOptions
from fxgrow.growth.upcycle import upcycle
from fxgrow.growth.verify import emit_and_verify
from fxgrow.growth.vocabulary import grow_vocabulary
from fxgrow.growth.widen import Widened, new_neuron_updates, widen

__all__ = [
    "ALL_WIDTHS",
    "HEAD_TYPES",
    "UNITS",
    "Batch",
    "BatchLoss",
    "BatchRoles",
    "Budget",
    "Deepened",
    "DescribedModel",
    "Expanded",
    "Extended",
    "Growth",
    "GrowthReport",
    "LossFunction",
    "Method",
    "MixtureOfExperts",
    "Objective",
    "ParameterUpdate",
    "Picked",
    "Plan",
    "PlanRow",
    "PreparedModel",
    "Proposal",
    "ResolvedBudget",
    "Scope",
    "Scores",
    "SearchResult",
    "SelectFunction",
    "Selection",
    "Spending",
    "StepOptions",
    "Widened",
    "assign_roles",
    "backtrack",
    "block_patterns",
    "check_step",
    "deepen",
    "described_model",
    "emit",
    "emit_and_verify",
    "estimate_statistics",
    "find_head",
    "frozen_statistics",
    "full_precision",
    "gradients_of",
    "grow_classes",
    "grow_experts",
    "grow_step",
    "grow_to",
    "grow_vocabulary",
    "input_and_target",
    "needs_one_process",
    "new_neuron_updates",
    "parameter_updates",
    "predicts_gain",
    "record_calls",
    "refresh_statistics",
    "regrow",
    "reinitialize",
    "replay",
    "require_alike",
    "require_block_candidates",
    "require_close",
    "resolve_budget",
    "scale_widths",
    "search",
    "select",
    "take_batches",
    "unwrapped",
    "upcycle",
    "widen",
    "width_changes",
    "with_candidates_for_budget",
]

# Old names, which go with the next version.
__getattr__ = renamed_attributes(
    __name__,
    {
        "EVERYTHING": "ALL_WIDTHS",
        "Choose": "SelectFunction",
        "Filling": "ParameterUpdate",
        "Loss": "LossFunction",
        "Neighbourhood": "Proposal",
        "Purse": "ResolvedBudget",
        "open_purse": "resolve_budget",
    },
)
