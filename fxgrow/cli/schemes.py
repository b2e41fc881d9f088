"""One function per kind of model reference, from a parsed reference to a module; no weights are ever downloaded.

Constructors get the options that ``fxgrow.cli.options`` lists and no others. Only ``python_factory`` runs code that is
neither ours nor an installed library's, and only where ``Trust`` lets it.

Initial weights come from torch's default generator, as for a hand-written constructor call: seed it first.
"""

import inspect
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from fxgrow.cells import named_network
from fxgrow.cli import options as tables
from fxgrow.cli.options import OptionKind, bounded_options, wrong_value
from fxgrow.cli.reference_grammar import InputShape, Reference
from fxgrow.cli.trust import Trust, is_identifier, is_module_name
from fxgrow.documents import limits
from fxgrow.errors import ModelError
from fxgrow.optional import require
from fxgrow.spec import ArchitectureSpec, GrowthStep, load, spec_of

IMAGE: InputShape = (3, 224, 224)
VIDEO: InputShape = (3, 16, 224, 224)
# What torchvision's models want to see, by the module they are defined in; the others take one IMAGE.
TORCHVISION_INPUTS: Mapping[str, tuple[InputShape, ...]] = MappingProxyType(
    {
        "torchvision.models.inception": ((3, 299, 299),),
        "torchvision.models.quantization.inception": ((3, 299, 299),),
        "torchvision.models.optical_flow.raft": ((3, 128, 128), (3, 128, 128)),
        "torchvision.models.video.mvit": (VIDEO,),
        "torchvision.models.video.resnet": (VIDEO,),
        "torchvision.models.video.s3d": (VIDEO,),
        "torchvision.models.video.swin_transformer": (VIDEO,),
    }
)
# Options that torchvision's functions take out of **kwargs, so that no signature shows them.
TORCHVISION_HIDDEN: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "torchvision.models.efficientnet": frozenset({"dropout"}),
        "torchvision.models.maxvit": frozenset({"input_size"}),
        "torchvision.models.mobilenetv3": frozenset({"dilated", "reduced_tail", "width_mult"}),
        "torchvision.models.vision_transformer": frozenset({"image_size"}),
    }
)
# Ours to decide: weights would be downloaded.
TORCHVISION_WEIGHTS = ("weights", "weights_backbone")
HUGGING_FACE_WEIGHTS = "use_pretrained_backbone"
# The tables of transformers that model classes are looked up in, nothing else of it.
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
OWN_FACTORIES: Mapping[str, tuple[Callable[..., nn.Module], Mapping[str, OptionKind]]] = (
    MappingProxyType(
        {"fxgrow.cells.evaluation:named_network": (named_network, tables.CELLS_OPTIONS)}
    )
)
"""Factories of ours and their options, which need no trust: recipes of ``fxgrow cells train`` name them."""
# What a constructor of a library raises on options that do not go together.
BUILD_ERRORS = (
    TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError, RuntimeError, MemoryError,
    ImportError,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ResolvedModel:
    """A model and a tuple of arguments to run it on.

    ``width`` is the factor that the reference asks all widths to be scaled by (surgery does it), or None. ``label``
    names the same model again, in one line. ``stated``: the shapes of the example inputs are those that the reference,
    the factory or the directory states, not a guess. ``history``: the growth steps that a loaded model has behind it.
    """

    model: nn.Module
    example_inputs: tuple[Any, ...]
    label: str
    width: float | None = None
    stated: bool = False
    history: tuple[GrowthStep, ...] = ()


def torchvision_model(reference: Reference, classes: int | None, trust: Trust) -> ResolvedModel:
    """``torchvision:NAME?option=value``: any model that ``torchvision.models`` lists."""
    del trust  # nothing foreign is run
    models = require("torchvision.models", extra="vision", error=ModelError)
    _known(reference.name, models.list_models(), "torchvision")
    builder = models.get_model_builder(reference.name)
    accepted = _torchvision_options(builder)
    reference = _with_classes(
        reference, classes, "num_classes" if "num_classes" in accepted else None
    )
    _check_options(reference, accepted)
    _check_values(reference, tables.TORCHVISION_OPTIONS)
    without = {
        name: None for name in TORCHVISION_WEIGHTS if name in inspect.signature(builder).parameters
    }
    model = _construct(builder, reference, {**reference.options, **without}, accepted)
    side = getattr(model, "image_size", None)
    shapes = (
        ((3, side, side),)
        if isinstance(side, int)
        else TORCHVISION_INPUTS.get(builder.__module__, (IMAGE,))
    )
    return _resolved(model, reference, shapes)


def _torchvision_options(builder: Callable[..., nn.Module]) -> frozenset[str]:
    signature = inspect.signature(builder)
    made = signature.return_annotation
    explicit = _explicit(signature) | {
        name for kind in made.__mro__[:-1] for name in _defaulted(kind)
    }
    hidden = TORCHVISION_HIDDEN.get(builder.__module__, frozenset())
    return frozenset(explicit | hidden) & frozenset(tables.TORCHVISION_OPTIONS)


def _explicit(signature: inspect.Signature) -> frozenset[str]:
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return frozenset(
        name for name, parameter in signature.parameters.items() if parameter.kind not in variadic
    )


def _defaulted(kind: type) -> Iterator[str]:
    """Options of a class that may be left out; what may not be is filled in by the function that builds it."""
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            yield name


def timm_model(reference: Reference, classes: int | None, trust: Trust) -> ResolvedModel:
    """``timm:NAME?option=value``: any model that ``timm`` lists."""
    del trust
    _check_values(reference, tables.TIMM_OPTIONS)
    timm = require("timm", extra="zoo", error=ModelError)
    _known(reference.name, timm.list_models(), "timm")
    reference = _with_classes(reference, classes, "num_classes")

    def build(**options: Any) -> nn.Module:
        made: nn.Module = timm.create_model(reference.name, pretrained=False, **options)
        return made

    model = _construct(build, reference, reference.options, frozenset(tables.TIMM_OPTIONS))
    shape = getattr(model, "default_cfg", {}).get("input_size", IMAGE)
    return _resolved(model, reference, (tuple(shape),))


def hugging_face_model(reference: Reference, classes: int | None, trust: Trust) -> ResolvedModel:
    """``hf:bert?hidden_size=64`` or ``hf:BertForMaskedLM``: the architecture, from its configuration.

    The name is a model type, for the bare model, or a model class of ``transformers``.
    """
    del trust
    _check_values(reference, tables.HUGGING_FACE_OPTIONS)
    transformers = require("transformers", extra="zoo", error=ModelError)
    kinds = transformers.CONFIG_MAPPING
    if reference.name in kinds:
        configuration, make = kinds[reference.name], transformers.AutoModel.from_config
    else:
        _known(reference.name, [*kinds.keys(), *sorted(_model_classes())], "transformers")
        make = _model_class(transformers, reference.name)
        configuration = make.config_class
    labelled = reference.name.endswith("Classification")
    reference = _with_classes(reference, classes, "num_labels" if labelled else None)
    stated = _explicit(inspect.signature(configuration))
    accepted = (stated | {"num_labels"}) & frozenset(tables.HUGGING_FACE_OPTIONS)
    _check_options(reference, accepted)
    without = {HUGGING_FACE_WEIGHTS: False} if HUGGING_FACE_WEIGHTS in stated else {}
    config = _construct(configuration, reference, {**reference.options, **without}, accepted)
    return _hugging_face_inputs(
        _construct(make, reference, {"config": config}, accepted), config, reference
    )


def _model_classes() -> frozenset[str]:
    """The names in the tables that transformers keeps of its own model classes."""
    auto = require("transformers.models.auto.modeling_auto", extra="zoo", error=ModelError)
    found: set[str] = set()
    for table in HUGGING_FACE_TABLES:
        for names in vars(auto).get(table, {}).values():
            found.update((names,) if isinstance(names, str) else names)
    return frozenset(found)


def _model_class(transformers: Any, name: str) -> Any:
    """The class of a name that ``_model_classes`` lists."""
    made = getattr(transformers, name, None)
    if isinstance(made, type) and issubclass(made, nn.Module) and hasattr(made, "config_class"):
        return made
    raise ModelError(
        "unknown-model",
        f"transformers cannot build {name!r} as it is installed; update it or choose another model",
    )


def _hugging_face_inputs(model: Any, config: Any, reference: Reference) -> ResolvedModel:
    if model.main_input_name == "pixel_values":
        side, channels = getattr(config, "image_size", None), getattr(config, "num_channels", None)
        if isinstance(side, int) and isinstance(channels, int):
            return _resolved(model, reference, ((channels, side, side),))
        return _resolved(model, reference, (IMAGE,))
    tokens = tuple(torch.ones(1, *shape, dtype=torch.int64) for shape in reference.inputs)
    return ResolvedModel(
        model, tokens or (model.dummy_inputs["input_ids"],), reference.label, reference.width
    )


def python_factory(reference: Reference, classes: int | None, trust: Trust) -> ResolvedModel:
    """``package.module:factory?option=value``; modules are looked for in the current directory too.

    The factory (a function or a module class) returns an ``nn.Module``, or that and a tuple of example inputs. This
    runs the code of that module: raises ``ModelError`` (``untrusted-factory``) before it does if ``trust`` says no.
    """
    if reference.name in OWN_FACTORIES:
        return _own_factory(reference, classes)
    module_name, name = check_factory(reference, trust)
    with _current_directory_importable():
        factory = _factory(module_name, name)
        trust.check_factory(factory, module_name, name)
        accepted = _explicit(inspect.signature(factory))
        reference = _with_classes(
            reference, classes, "num_classes" if "num_classes" in accepted else None
        )
        try:
            inspect.signature(factory).bind(**reference.options)
        except TypeError as error:
            raise _wrong_options(reference, str(error), accepted) from error
        made = factory(**reference.options)
    model, inputs = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(model, nn.Module):
        raise ModelError(
            "not-a-model",
            f"{reference.label} returned a {type(model).__name__}, which cannot be grown; return an nn.Module, or one "
            "and a tuple of example inputs",
        )
    if inputs is None or reference.inputs:
        return _resolved(model, reference, (IMAGE,))
    arguments = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    return ResolvedModel(model, arguments, reference.label, reference.width, stated=True)


def check_factory(reference: Reference, trust: Trust) -> tuple[str, str]:
    """The module and the factory that a reference names, if they may be used. Nothing is imported."""
    module_name, _, name = reference.name.partition(":")
    if not is_module_name(module_name) or not is_identifier(name):
        shown = reference.name[: limits.MESSAGE]
        raise ModelError(
            "bad-reference", f"{shown!r} names no factory; write package.module:factory"
        )
    if reference.name not in OWN_FACTORIES:
        trust.check_import(module_name, name)
    return module_name, name


def _own_factory(reference: Reference, classes: int | None) -> ResolvedModel:
    factory, table = OWN_FACTORIES[reference.name]
    _check_values(reference, table)
    reference = _with_classes(reference, classes, "num_classes")
    return _resolved(
        _construct(factory, reference, reference.options, frozenset(table)), reference, (IMAGE,)
    )


def spec_directory(reference: Reference, classes: int | None, trust: Trust) -> ResolvedModel:
    """``directory:PATH``: a run or spec directory; its weights and its growth history come along.

    ``classes`` does not matter here: a saved model has the outputs that it has.
    """
    del classes, trust  # a spec names functions of its allow-list alone
    _check_options(reference, frozenset())
    model = load(reference.name)
    spec = spec_of(model)
    resolved = _resolved(model, reference, ())
    inputs = resolved.example_inputs or example_inputs_of(spec)
    return replace(resolved, example_inputs=inputs, stated=True, history=spec.history)


def example_inputs_of(spec: ArchitectureSpec) -> tuple[torch.Tensor, ...]:
    """Arguments of the shapes and dtypes that a spec records: random where they are real numbers, else zeros."""
    generator = torch.Generator().manual_seed(0)
    blank = (torch.zeros(item.shape, dtype=getattr(torch, item.dtype)) for item in spec.inputs)
    return tuple(
        torch.randn(each.shape, generator=generator).to(each) if each.is_floating_point() else each
        for each in blank
    )


@contextmanager
def _current_directory_importable() -> Iterator[None]:
    # Last, so that a file of the user's cannot stand in for a library.
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _factory(module_name: str, name: str) -> Callable[..., Any]:
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        # A module that is there but imports one that is not has its own, better message.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ModelError(
            "unknown-model",
            f"there is no module {error.name!r} to import {name!r} from; check the name (or the scheme: torchvision, "
            "timm, hf), or run where the module can be found",
        ) from error
    _known(name, [key for key, value in vars(module).items() if callable(value)], module_name)
    factory: Callable[..., Any] = getattr(module, name)
    return factory


def _known(name: str, names: Iterable[str], where: str) -> None:
    known = list(names)
    if name in known:
        return
    closest = ", ".join(get_close_matches(name, known, n=3, cutoff=0.0)) or "nothing"
    raise ModelError(
        "unknown-model", f"{where} has no model {name!r}; the closest names are {closest}"
    )


def _with_classes(reference: Reference, classes: int | None, option: str | None) -> Reference:
    """The reference with the number of classes under ``option``, unless the user has said it or nothing takes it."""
    if classes is None or option is None or option in reference.options:
        return reference
    return replace(reference, options={**reference.options, option: classes})


def _check_values(reference: Reference, table: Mapping[str, OptionKind]) -> None:
    """Before anything is imported or built: the options are in the table, and their values in its ranges."""
    for option, value in reference.options.items():
        reason = wrong_value(table, option, value)
        if reason:
            raise _wrong_options(
                reference, reason, get_close_matches(option, table, n=5, cutoff=0.0)
            )


def _check_options(reference: Reference, accepted: frozenset[str]) -> None:
    for option in reference.options:
        if option not in accepted:
            raise _wrong_options(reference, f"it has no option {option!r}", accepted)


def _construct(
    constructor: Callable[..., Any],
    reference: Reference,
    options: Mapping[str, Any],
    accepted: frozenset[str],
) -> Any:
    try:
        with warnings.catch_warnings():
            # GoogLeNet and Inception announce a future change of their initial weights; nobody here can act on it.
            warnings.filterwarnings("ignore", "The default weight initialization", FutureWarning)
            _check_size(constructor, reference, options)
            with bounded_options(reference.label):
                return constructor(**options)
    except BUILD_ERRORS as error:
        raise _wrong_options(reference, str(error) or type(error).__name__, accepted) from error


def _check_size(
    constructor: Callable[..., Any], reference: Reference, options: Mapping[str, Any]
) -> None:
    """Count what would be built, without memory or time for weights. Random numbers are left as they were."""
    try:
        with (
            torch.random.fork_rng(devices=[]),
            torch.device("meta"),
            bounded_options(reference.label),
        ):
            constructor(**options)
    except NotImplementedError:
        # It reads a number from a tensor (RegNet), which the meta device does not have: counted as it is built.
        return


def _wrong_options(reference: Reference, reason: str, accepted: Iterable[str]) -> ModelError:
    takes = ", ".join(sorted(accepted)) or "no options"
    reason = " ".join(reason.split())[: limits.MESSAGE]
    return ModelError(
        "model-options",
        f"{reference.label[: limits.MESSAGE]} cannot be built: {reason}; it takes {takes}",
    )


def _resolved(
    model: nn.Module, reference: Reference, shapes: tuple[InputShape, ...]
) -> ResolvedModel:
    """The model with example inputs of the shapes that the reference gives, else of ``shapes``."""
    generator = torch.Generator().manual_seed(0)
    inputs = tuple(
        torch.randn(1, *shape, generator=generator) for shape in reference.inputs or shapes
    )
    return ResolvedModel(
        model, inputs, reference.label, reference.width, stated=bool(reference.inputs)
    )
