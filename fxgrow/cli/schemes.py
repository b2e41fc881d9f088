"""One function per kind of model reference, from the parsed reference to a module.

No weights are ever downloaded. Constructors get the options that ``fxgrow.cli.options`` lists and
no others. Only ``python_factory`` runs code that belongs neither to fxgrow nor to an installed
library, and only if ``Trust`` lets it.

Initial weights come from torch's default generator, as for a constructor call written by hand:
seed it first.
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
from fxgrow.cli.options import OptionKind, wrong_value
from fxgrow.cli.reference_grammar import InputShape, Reference
from fxgrow.cli.trust import Trust, is_ascii_identifier, is_module_name
from fxgrow.documents import limits
from fxgrow.errors import ModelError
from fxgrow.memory import bounded_model
from fxgrow.optional import require
from fxgrow.spec import ArchitectureSpec, GrowthStep, load, spec_of

IMAGE: InputShape = (3, 224, 224)
VIDEO: InputShape = (3, 16, 224, 224)
# Shapes of the inputs of torchvision's models, by the module that defines the model; all others
# take one IMAGE.
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
# Options that fxgrow always sets itself, because other values would download weights.
TORCHVISION_WEIGHTS = ("weights", "weights_backbone")
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
# Factories of fxgrow itself with their options. They need no trust, because recipes that ``fxgrow
# cells train`` writes name them.
OWN_FACTORIES: Mapping[str, tuple[Callable[..., nn.Module], Mapping[str, OptionKind]]] = (
    MappingProxyType(
        {"fxgrow.cells.evaluation:named_network": (named_network, tables.CELLS_OPTIONS)}
    )
)
# What a library's constructor may raise for options that do not go together.
BUILD_ERRORS = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    MemoryError,
    ImportError,
)


@dataclass(frozen=True, eq=False)
class ResolvedModel:
    """A model and a tuple of arguments to run it on.

    Args:
        model: the module, as its constructor made it.
        example_inputs: arguments of one call.
        label: a reference that names the same model again.
        width: the factor by which the reference asks all widths to be scaled (not done yet); None:
            it does not.
        stated: whether the shapes of the example inputs are stated by the reference, the factory or
            the directory; else they are a guess.
        history: the growth steps that a loaded model has behind it.
    """

    model: nn.Module
    example_inputs: tuple[Any, ...]
    label: str
    width: float | None = None
    stated: bool = False
    history: tuple[GrowthStep, ...] = ()


def torchvision_model(reference: Reference, classes: int | None, trust: Trust) -> ResolvedModel:
    """Build ``torchvision:NAME?option=value``: any model that ``torchvision.models`` lists.

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
    models = require("torchvision.models", extra="vision", error=ModelError)
    _check_known(reference.name, models.list_models(), "torchvision")
    builder = models.get_model_builder(reference.name)
    accepted = _torchvision_options(builder)
    reference = _with_classes(
        reference, classes, "num_classes" if "num_classes" in accepted else None
    )
    _check_options(reference, accepted)
    _check_values(reference, tables.TORCHVISION_OPTIONS)
    options = {**reference.options, **_without_weights(builder)}
    model = _construct(builder, reference, options, accepted)
    return _with_inputs(model, reference, _torchvision_shapes(model, builder))


def _torchvision_options(builder: Callable[..., nn.Module]) -> frozenset[str]:
    """Options of the function that builds a model, and of the model's class."""
    signature = inspect.signature(builder)
    options = set(_explicit_options(signature))
    options |= TORCHVISION_HIDDEN.get(builder.__module__, frozenset())
    model_class = signature.return_annotation
    # The last class of the order is ``object``.
    for base in model_class.__mro__[:-1]:
        options |= _optional_options(base)
    return frozenset(options) & frozenset(tables.TORCHVISION_OPTIONS)


def _explicit_options(signature: inspect.Signature) -> frozenset[str]:
    """The parameters of a signature that have a name of their own."""
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return frozenset(
        name for name, parameter in signature.parameters.items() if parameter.kind not in variadic
    )


def _optional_options(model_class: type) -> frozenset[str]:
    """Options of a class with a default; the others are set by the function that builds it."""
    options = set()
    for name, parameter in inspect.signature(model_class).parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            options.add(name)
    return frozenset(options)


def _without_weights(builder: Callable[..., nn.Module]) -> dict[str, None]:
    """The options of a builder that would download weights, set to None."""
    parameters = inspect.signature(builder).parameters
    return {name: None for name in TORCHVISION_WEIGHTS if name in parameters}


def _torchvision_shapes(
    model: nn.Module, builder: Callable[..., nn.Module]
) -> tuple[InputShape, ...]:
    # Vision transformers know the side of their images.
    side = getattr(model, "image_size", None)
    if isinstance(side, int):
        return ((3, side, side),)
    return TORCHVISION_INPUTS.get(builder.__module__, (IMAGE,))


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
    _check_values(reference, tables.TIMM_OPTIONS)
    timm = require("timm", extra="zoo", error=ModelError)
    _check_known(reference.name, timm.list_models(), "timm")
    reference = _with_classes(reference, classes, "num_classes")

    def build(**options: Any) -> nn.Module:
        model: nn.Module = timm.create_model(reference.name, pretrained=False, **options)
        return model

    # timm's functions take **kwargs, so the table is all that is known of their options.
    model = _construct(build, reference, reference.options, frozenset(tables.TIMM_OPTIONS))
    shape = getattr(model, "default_cfg", {}).get("input_size", IMAGE)
    return _with_inputs(model, reference, (tuple(shape),))


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
    _check_values(reference, tables.HUGGING_FACE_OPTIONS)
    transformers = require("transformers", extra="zoo", error=ModelError)
    config_class, make_model = _hugging_face_classes(transformers, reference.name)
    is_classifier = reference.name.endswith("Classification")
    reference = _with_classes(reference, classes, "num_labels" if is_classifier else None)
    explicit = _explicit_options(inspect.signature(config_class))
    # ``num_labels`` is an option of every configuration, but is passed in **kwargs.
    accepted = (explicit | {"num_labels"}) & frozenset(tables.HUGGING_FACE_OPTIONS)
    _check_options(reference, accepted)
    options = dict(reference.options)
    if HUGGING_FACE_WEIGHTS in explicit:
        options[HUGGING_FACE_WEIGHTS] = False
    config = _construct(config_class, reference, options, accepted)
    model = _construct(make_model, reference, {"config": config}, accepted)
    return _with_hugging_face_inputs(model, config, reference)


def _hugging_face_classes(transformers: Any, name: str) -> tuple[Any, Callable[..., Any]]:
    """The configuration class of a model type or model class, and what makes a model of it."""
    config_classes = transformers.CONFIG_MAPPING
    if name in config_classes:
        return config_classes[name], transformers.AutoModel.from_config
    _check_known(name, [*config_classes.keys(), *sorted(_model_class_names())], "transformers")
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
            return _with_inputs(model, reference, ((channels, side, side),))
        return _with_inputs(model, reference, (IMAGE,))
    # Token numbers; 1 is in every vocabulary.
    inputs = []
    for shape in reference.inputs:
        inputs.append(torch.ones(1, *shape, dtype=torch.int64))
    if not inputs:
        inputs = [model.dummy_inputs["input_ids"]]
    return ResolvedModel(model, tuple(inputs), reference.label, reference.width)


def python_factory(reference: Reference, classes: int | None, trust: Trust) -> ResolvedModel:
    """Call ``package.module:factory?option=value``.

    The factory (a function or a module class) returns an ``nn.Module``, or that and a tuple of
    example inputs. Modules are looked for in the current directory too.

    Args:
        reference: the parsed reference.
        classes: number of classes of the data, if any.
        trust: whether the module may be imported, which runs its code.

    Returns:
        The model with example inputs.

    Raises:
        ModelError: ``untrusted-factory`` before anything is imported; else if there is no such
            factory, it does not take these options, or it returns no module.
    """
    if reference.name in OWN_FACTORIES:
        return _own_factory(reference, classes)
    module_name, name = check_factory(reference, trust)
    with _current_directory_importable():
        factory = _import_factory(module_name, name)
        trust.check_factory(factory, module_name, name)
        accepted = _explicit_options(inspect.signature(factory))
        reference = _with_classes(
            reference, classes, "num_classes" if "num_classes" in accepted else None
        )
        try:
            inspect.signature(factory).bind(**reference.options)
        except TypeError as error:
            raise _wrong_options(reference, str(error), accepted) from error
        # Outside of ``try``: a TypeError inside the factory is a bug of its own.
        result = factory(**reference.options)
    return _from_factory(result, reference)


def _from_factory(result: Any, reference: Reference) -> ResolvedModel:
    """The model, and perhaps the example inputs, that a factory returned."""
    is_pair = isinstance(result, tuple) and len(result) == 2
    model, inputs = result if is_pair else (result, None)
    if not isinstance(model, nn.Module):
        raise ModelError(
            "not-a-model",
            f"{reference.label} returned a {type(model).__name__}, which cannot be grown; return "
            "an nn.Module, or one and a tuple of example inputs",
        )
    if inputs is None or reference.inputs:
        return _with_inputs(model, reference, (IMAGE,))
    arguments = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    return ResolvedModel(model, arguments, reference.label, reference.width, stated=True)


def check_factory(reference: Reference, trust: Trust) -> tuple[str, str]:
    """Check that a factory may be used; nothing is imported.

    Args:
        reference: a parsed reference of the scheme ``python``.
        trust: which modules may be imported.

    Returns:
        The names of the module and of the factory in it.

    Raises:
        ModelError: ``bad-reference`` or ``untrusted-factory``.
    """
    module_name, _, name = reference.name.partition(":")
    if not is_module_name(module_name) or not is_ascii_identifier(name):
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
    model = _construct(factory, reference, reference.options, frozenset(table))
    return _with_inputs(model, reference, (IMAGE,))


def spec_directory(reference: Reference, classes: int | None, trust: Trust) -> ResolvedModel:
    """Load ``directory:PATH``, a run or spec directory, with its weights and growth history.

    Args:
        reference: the parsed reference; its name is the path.
        classes: ignored, a saved model has the outputs that it has.
        trust: not needed, a spec can only name functions of an allow-list.

    Returns:
        The model with example inputs of the shapes that it was saved with.

    Raises:
        ModelError: if the reference has options.
        SpecError: if the directory does not hold a valid model.
    """
    del classes, trust
    _check_options(reference, frozenset())
    model = load(reference.name)
    spec = spec_of(model)
    resolved = _with_inputs(model, reference, ())
    inputs = resolved.example_inputs or example_inputs_of(spec)
    return replace(resolved, example_inputs=inputs, stated=True, history=spec.history)


def example_inputs_of(spec: ArchitectureSpec) -> tuple[torch.Tensor, ...]:
    """Arguments of the shapes and dtypes of a spec: normal for real numbers, else zeros."""
    # A generator of their own, so that global random numbers stay as they are.
    generator = torch.Generator().manual_seed(0)
    inputs = []
    for item in spec.inputs:
        value = torch.zeros(item.shape, dtype=getattr(torch, item.dtype))
        if value.is_floating_point():
            value = torch.randn(value.shape, generator=generator).to(value)
        inputs.append(value)
    return tuple(inputs)


@contextmanager
def _current_directory_importable() -> Iterator[None]:
    # Last, so that a file of the user's cannot stand in for a library.
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _import_factory(module_name: str, name: str) -> Callable[..., Any]:
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        # A module that is there but imports one that is not has its own, better message.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ModelError(
            "unknown-model",
            f"there is no module {error.name!r} to import {name!r} from; check the name (or the "
            "scheme: torchvision, timm, hf), or run where the module can be found",
        ) from error
    functions = [key for key, value in vars(module).items() if callable(value)]
    _check_known(name, functions, module_name)
    factory: Callable[..., Any] = getattr(module, name)
    return factory


def _check_known(name: str, names: Iterable[str], where: str) -> None:
    known = list(names)
    if name in known:
        return
    closest = ", ".join(get_close_matches(name, known, n=3, cutoff=0.0)) or "nothing"
    raise ModelError(
        "unknown-model", f"{where} has no model {name!r}; the closest names are {closest}"
    )


def _with_classes(reference: Reference, classes: int | None, option: str | None) -> Reference:
    """Set an option to the number of classes, unless the reference states it already.

    ``option`` is None if the constructor has no such option.
    """
    if classes is None or option is None or option in reference.options:
        return reference
    return replace(reference, options={**reference.options, option: classes})


def _check_values(reference: Reference, table: Mapping[str, OptionKind]) -> None:
    """Check, before anything is imported or built, that the options fit a table."""
    for option, value in reference.options.items():
        reason = wrong_value(table, option, value)
        if reason:
            closest = get_close_matches(option, table, n=5, cutoff=0.0)
            raise _wrong_options(reference, reason, closest)


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
            # GoogLeNet and Inception announce a change of their initial weights; nobody here can
            # act on it.
            warnings.filterwarnings("ignore", "The default weight initialization", FutureWarning)
            _check_size(constructor, reference, options)
            with bounded_model(reference.label, limits.ENTRIES):
                return constructor(**options)
    except BUILD_ERRORS as error:
        raise _wrong_options(reference, str(error) or type(error).__name__, accepted) from error


def _check_size(
    constructor: Callable[..., Any], reference: Reference, options: Mapping[str, Any]
) -> None:
    """Build on the meta device first, to count without spending memory or time on weights."""
    try:
        # Initializers draw random numbers on the meta device too; the real weights must not depend
        # on that.
        with (
            torch.random.fork_rng(devices=[]),
            torch.device("meta"),
            bounded_model(reference.label, limits.ENTRIES),
        ):
            constructor(**options)
    except NotImplementedError:
        # The constructor reads a value from a tensor (RegNet), and the meta device has none. Such a
        # model is only counted while it is built in earnest.
        return


def _wrong_options(reference: Reference, reason: str, accepted: Iterable[str]) -> ModelError:
    takes = ", ".join(sorted(accepted)) or "no options"
    reason = " ".join(reason.split())[: limits.MESSAGE]
    return ModelError(
        "model-options",
        f"{reference.label[: limits.MESSAGE]} cannot be built: {reason}; it takes {takes}",
    )


def _with_inputs(
    model: nn.Module, reference: Reference, shapes: tuple[InputShape, ...]
) -> ResolvedModel:
    """The model with random example inputs of the reference's shapes, else of ``shapes``."""
    generator = torch.Generator().manual_seed(0)
    inputs = []
    for shape in reference.inputs or shapes:
        inputs.append(torch.randn(1, *shape, generator=generator))
    stated = bool(reference.inputs)
    return ResolvedModel(model, tuple(inputs), reference.label, reference.width, stated=stated)
