"""``hf:NAME``: a model type or model class of transformers, from its configuration."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fxgrow.cli import options as tables
from fxgrow.cli.reference_grammar import Reference
from fxgrow.cli.schemes.construction import (
    IMAGE,
    ResolvedModel,
    check_known,
    check_option_values,
    check_options,
    construct,
    explicit_options,
    with_classes,
    with_inputs,
)
from fxgrow.cli.trust import Trust
from fxgrow.errors import ModelError
from fxgrow.optional import require

# The option that fxgrow always sets itself, because its other value would download weights.
HUGGING_FACE_WEIGHTS = "use_pretrained_backbone"
# The tables of transformers in which model classes are looked up. Nothing else of the package can
# be named, for it holds much that is no model.
HUGGING_FACE_TABLES = (
    "MODEL_MAPPING_NAMES",
    "MODEL_FOR_PRETRAINING_MAPPING_NAMES",
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
    "MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES",
    "MODEL_FOR_NEXT_SENTENCE_PREDICTION_MAPPING_NAMES",
    "MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_SEGMENTATION_MAPPING_NAMES",
    "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES",
    "MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING_NAMES",
    "MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES",
    "MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES",
    "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_AUDIO_FRAME_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_AUDIO_XVECTOR_MAPPING_NAMES",
    "MODEL_FOR_CTC_MAPPING_NAMES",
)


def hugging_face_model(reference: Reference, classes: int | None, trust: Trust) -> ResolvedModel:
    """Build ``hf:bert?hidden_size=64`` or ``hf:BertForMaskedLM`` from its configuration.

    Args:
        reference: the parsed reference; its name is a model type, for the bare model, or a model
            class of ``transformers``.
        classes: number of classes of the data, if any.
        trust: not needed, no foreign code is run.

    Returns:
        The model with example inputs.

    Raises:
        ModelError: if there is no such model or it cannot be built with these options.
    """
    del trust
    check_option_values(reference, tables.HUGGING_FACE_OPTIONS)
    transformers = require("transformers", extra="zoo", error=ModelError)
    config_class, make_model = _hugging_face_classes(transformers, reference.name)
    is_classifier = reference.name.endswith("Classification")
    reference = with_classes(reference, classes, "num_labels" if is_classifier else None)
    explicit = explicit_options(inspect.signature(config_class))
    # ``num_labels`` is an option of every configuration, but is passed in **kwargs.
    accepted = (explicit | {"num_labels"}) & frozenset(tables.HUGGING_FACE_OPTIONS)
    check_options(reference, accepted)
    options = dict(reference.options)
    if HUGGING_FACE_WEIGHTS in explicit:
        options[HUGGING_FACE_WEIGHTS] = False
    config = construct(config_class, reference, options, accepted)
    model = construct(make_model, reference, {"config": config}, accepted)
    return _with_hugging_face_inputs(model, config, reference)


def _hugging_face_classes(transformers: Any, name: str) -> tuple[Any, Callable[..., Any]]:
    """The configuration class of a model type or model class, and what makes a model of it."""
    config_classes = transformers.CONFIG_MAPPING
    if name in config_classes:
        return config_classes[name], transformers.AutoModel.from_config
    check_known(name, [*config_classes.keys(), *sorted(_model_class_names())], "transformers")
    model_class = _find_model_class(transformers, name)
    return model_class.config_class, model_class


def _model_class_names() -> frozenset[str]:
    """The names in the tables that transformers keeps of its own model classes."""
    auto = require("transformers.models.auto.modeling_auto", extra="zoo", error=ModelError)
    class_names: set[str] = set()
    for table in HUGGING_FACE_TABLES:
        # A version of transformers need not have all tables. A type has one class or several.
        for names in vars(auto).get(table, {}).values():
            class_names.update((names,) if isinstance(names, str) else names)
    return frozenset(class_names)


def _find_model_class(transformers: Any, name: str) -> Any:
    """The class of a name that ``_model_class_names`` lists."""
    value = getattr(transformers, name, None)
    # Classes whose own requirements are not installed are replaced by placeholders.
    if isinstance(value, type) and issubclass(value, nn.Module) and hasattr(value, "config_class"):
        return value
    raise ModelError(
        "unknown-model",
        f"transformers cannot build {name!r} as it is installed; update it or choose another model",
    )


def _with_hugging_face_inputs(model: Any, config: Any, reference: Reference) -> ResolvedModel:
    if model.main_input_name == "pixel_values":
        side, channels = getattr(config, "image_size", None), getattr(config, "num_channels", None)
        if isinstance(side, int) and isinstance(channels, int):
            return with_inputs(model, reference, ((channels, side, side),))
        return with_inputs(model, reference, (IMAGE,))
    # Token numbers; 1 is in every vocabulary.
    inputs = []
    for shape in reference.inputs:
        inputs.append(torch.ones(1, *shape, dtype=torch.int64))
    if not inputs:
        inputs = [model.dummy_inputs["input_ids"]]
    return ResolvedModel(model, tuple(inputs), reference.label, reference.width)
