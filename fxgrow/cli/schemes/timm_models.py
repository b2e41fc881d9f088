"""``timm:NAME``: a model that timm lists."""

from typing import Any

from torch import nn

from fxgrow.cli import options as tables
from fxgrow.cli.reference_grammar import Reference
from fxgrow.cli.schemes.construction import (
    IMAGE,
    ResolvedModel,
    check_known,
    check_option_values,
    construct,
    with_classes,
    with_inputs,
)
from fxgrow.cli.trust import Trust
from fxgrow.errors import ModelError
from fxgrow.optional import require


def timm_model(reference: Reference, classes: int | None, trust: Trust) -> ResolvedModel:
    """Build ``timm:NAME?option=value``: any model that ``timm`` lists.

    Args:
        reference: the parsed reference.
        classes: number of classes of the data, if any.
        trust: not needed, no foreign code is run.

    Returns:
        The model with example inputs.

    Raises:
        ModelError: if there is no such model or it cannot be built with these options.
    """
    del trust
    check_option_values(reference, tables.TIMM_OPTIONS)
    timm = require("timm", extra="zoo", error=ModelError)
    check_known(reference.name, timm.list_models(), "timm")
    reference = with_classes(reference, classes, "num_classes")

    def build(**options: Any) -> nn.Module:
        model: nn.Module = timm.create_model(reference.name, pretrained=False, **options)
        return model

    # timm's functions take **kwargs, so the table is all that is known of their options.
    model = construct(build, reference, reference.options, frozenset(tables.TIMM_OPTIONS))
    shape = getattr(model, "default_cfg", {}).get("input_size", IMAGE)
    return with_inputs(model, reference, (tuple(shape),))
