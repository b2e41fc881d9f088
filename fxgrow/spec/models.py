"""The specification of an architecture as frozen, closed, versioned pydantic models.

Everything here is data. What the names in it may refer to is decided by :mod:`fxgrow.spec.check` and
:mod:`fxgrow.spec.allowlist`; how it becomes a graph module, by :mod:`fxgrow.spec.load`.
"""

from math import prod
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue

from fxgrow.documents import StrictModel, limits
from fxgrow.spec.arguments import Argument, DType

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=0, le=limits.ELEMENTS)]


def _bounded(shape: tuple[int, ...]) -> tuple[int, ...]:
    if prod(size for size in shape if size) > limits.ELEMENTS:
        raise ValueError(f"A tensor should have at most {limits.ELEMENTS} elements")
    return shape


Shape = Annotated[tuple[Size, ...], Field(max_length=limits.AXES), AfterValidator(_bounded)]
Name = Annotated[str, Field(max_length=limits.NAME)]
# fx can be told to write notes on nodes into the source it generates, in triple quotes.
Note = Annotated[str, Field(max_length=limits.NAME, pattern=r"^[^\"'\\]*$")]
Score = Annotated[float, Field(ge=-limits.SCORE, le=limits.SCORE)]
BoundedTuple = Field(max_length=limits.ENTRIES)
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Added = Annotated[int, Field(ge=0, le=limits.NEURONS)]
SCHEMA_VERSION: Literal[2] = 2


class InputSpec(StrictModel):
    """One example input: the placeholder it feeds, its shape and dtype."""

    name: Name
    shape: Shape
    dtype: DType


class ProvenanceSpec(StrictModel):
    """Which rule put a node into the graph, and for which width and candidate."""

    rule: Note
    width: Note | None = None
    candidate: Note | int | None = None


class NodeSpec(StrictModel):
    """One fx node. ``target`` is a public qualified name for functions, else what fx has."""

    name: Name
    op: Literal["placeholder", "get_attr", "call_function", "call_method", "call_module", "output"]
    target: Name
    args: tuple[Argument, ...] = ()
    kwargs: dict[str, Argument] = Field(default={})
    provenance: ProvenanceSpec | None = None


class ModuleSpec(StrictModel):
    """One module: class by public name and the arguments of its constructor. ``torch.nn.Module``: a container."""

    name: Name
    type: Name
    config: dict[str, Argument] = Field(default={})


class ParameterSpec(StrictModel):
    """One parameter. ``tied_to`` names the earlier tensor it is the same object as."""

    name: Name
    shape: Shape
    dtype: DType
    requires_grad: bool = True
    tied_to: Name | None = None


class BufferSpec(StrictModel):
    """One buffer; the values of those that are not persistent are saved too, no constructor makes them again."""

    name: Name
    shape: Shape
    dtype: DType
    persistent: bool = True
    tied_to: Name | None = None


class SiteSpec(StrictModel):
    """One axis of one parameter or buffer that a width reaches."""

    parameter: str
    axis: Annotated[int, Field(ge=0, lt=limits.AXES)]
    role: Literal["writes", "carries", "reads"]


class RefusalSpec(StrictModel):
    """Why a width cannot grow."""

    code: str
    reason: str
    nodes: tuple[str, ...] = ()


class WidthSpec(StrictModel):
    """An ordered set of ``size`` neurons with the same sites; one neuron owns ``granule`` rows of its writer."""

    name: str
    size: Size
    granule: Annotated[Size, Field(ge=1)] = 1
    sites: tuple[SiteSpec, ...] = ()
    growable: bool
    refusal: RefusalSpec | None = None


class Cost(StrictModel):
    """Parameters (elements, tied ones once) and multiply-adds of one pass over the example inputs."""

    parameters: Count
    multiply_adds: Count


class MethodRecord(StrictModel):
    """The growth method and its settings."""

    name: str
    settings: dict[str, JsonValue] = Field(default={})


class WidthChange(StrictModel):
    """One width in one growth step: sizes (neurons), how many were split or new, and the scores of those chosen.

    ``neurons``: which ones were split, by their number before the step, once per copy; empty in specs of schema
    version 1, which did not record it.
    """

    width: str
    before: Size
    after: Size
    split: Added = 0
    new: Added = 0
    neurons: Annotated[tuple[Count, ...], Field(max_length=limits.NEURONS)] = ()
    scores: tuple[Score, ...] = ()


class LayerInsertion(StrictModel):
    """One layer put in by a growth step: its module's name, the node it follows, its score, its hidden neurons.

    ``form`` says how its neurons compute and ``norm`` whether a batch norm lies inside; None: a spec of schema version
    1, which did not record it.
    """

    name: str
    after: str
    score: Score | None = None
    neurons: Added = 0
    form: Literal["convolution", "depthwise", "token"] | None = None
    norm: bool | None = None


class GrowthStep(StrictModel):
    """One growth. Errors are relative differences of outputs, losses are on the growth batches. None: not measured.

    ``ties``: names of widths that grew alike.
    """

    parent: Digest
    method: MethodRecord
    budget: dict[str, JsonValue] = Field(default={})
    widths: tuple[WidthChange, ...] = ()
    layers: tuple[LayerInsertion, ...] = ()
    ties: tuple[tuple[str, ...], ...] = ()
    cost_before: Cost
    cost_after: Cost
    faithful_error: float | None = None
    preservation_error: float | None = None
    loss_before: float | None = None
    loss_after: float | None = None
    backtracks: Count = 0


class WeightsSpec(StrictModel):
    """SHA-256 of the weights file."""

    sha256: Digest


class ArchitectureSpec(StrictModel):
    """A model without its weights. ``fingerprint`` covers inputs, nodes, modules and tensors, and nothing else."""

    schema_version: Literal[2]
    fingerprint: Digest
    inputs: Annotated[tuple[InputSpec, ...], BoundedTuple]
    nodes: Annotated[tuple[NodeSpec, ...], BoundedTuple]
    modules: Annotated[tuple[ModuleSpec, ...], BoundedTuple] = ()
    parameters: Annotated[tuple[ParameterSpec, ...], BoundedTuple] = ()
    buffers: Annotated[tuple[BufferSpec, ...], BoundedTuple] = ()
    widths: Annotated[tuple[WidthSpec, ...], BoundedTuple] = ()
    history: Annotated[tuple[GrowthStep, ...], BoundedTuple] = ()
    cost: Cost
    weights: WeightsSpec | None = None
    versions: dict[str, str] = Field(default={})

    @property
    def tensors(self) -> tuple[ParameterSpec | BufferSpec, ...]:
        """Parameters, then buffers."""
        return self.parameters + self.buffers

    def __hash__(self) -> int:
        """By fingerprint: dicts inside make the fields unhashable."""
        return hash(self.fingerprint)


def to_json(spec: StrictModel) -> Any:
    """The JSON value of a model; fields at their default are left out."""
    return spec.model_dump(mode="json", exclude_defaults=True)
