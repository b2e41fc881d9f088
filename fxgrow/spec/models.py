"""The specification of an architecture as frozen, closed, versioned pydantic models.

Everything here is data. What the names in it may refer to is decided by :mod:`fxgrow.spec.check`
and :mod:`fxgrow.spec.allowlist`; how it becomes a graph module, by :mod:`fxgrow.spec.load`.
"""

from math import prod
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue

from fxgrow.documents import StrictModel, limits
from fxgrow.spec.arguments import Argument, DType

# Counts up with every change of the form; fxgrow.spec.migrations reads the older ones.
SCHEMA_VERSION: Literal[3] = 3

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=0, le=limits.ELEMENTS)]


def _check_num_elements(shape: tuple[int, ...]) -> tuple[int, ...]:
    # Sizes of 0 are left out: the strides of an empty tensor multiply the others all the same.
    if prod(size for size in shape if size) > limits.ELEMENTS:
        raise ValueError(f"A tensor should have at most {limits.ELEMENTS} elements")
    return shape


Shape = Annotated[
    tuple[Size, ...], Field(max_length=limits.AXES), AfterValidator(_check_num_elements)
]
Name = Annotated[str, Field(max_length=limits.NAME)]
# fx can be told to write notes on nodes into the source that it generates, in triple quotes, so
# nothing that could end or escape a string may stand in one.
Note = Annotated[str, Field(max_length=limits.NAME, pattern=r"^[^\"'\\]*$")]
# Bounded, so that a sum of scores is finite.
Score = Annotated[float, Field(ge=-limits.SCORE, le=limits.SCORE)]
# Bounds every list, so that the time to check a file does not depend on what the file claims.
BoundedTuple = Field(max_length=limits.ENTRIES)
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
# Bounded, because replaying a history adds as many neurons as it tells.
Added = Annotated[int, Field(ge=0, le=limits.NEURONS)]


class InputSpec(StrictModel):
    """One example input.

    Args:
        name: The placeholder that it feeds.
        shape: Its shape.
        dtype: Its dtype.
    """

    name: Name
    shape: Shape
    dtype: DType


class ProvenanceSpec(StrictModel):
    """How a node came into the graph.

    Args:
        rule: The rewrite rule that inserted it.
        width: The width that it was inserted for.
        candidate: The candidate that it was inserted for.
    """

    rule: Note
    width: Note | None = None
    candidate: Note | int | None = None


class NodeSpec(StrictModel):
    """One fx node.

    Args:
        name: Its name.
        op: Its kind.
        target: The public qualified name of a function; for other kinds, fx's own target.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        provenance: Which rule inserted it; None: it is part of the original model.
    """

    name: Name
    op: Literal["placeholder", "get_attr", "call_function", "call_method", "call_module", "output"]
    target: Name
    args: tuple[Argument, ...] = ()
    kwargs: dict[str, Argument] = Field(default={})
    provenance: ProvenanceSpec | None = None


class ModuleSpec(StrictModel):
    """One module.

    Args:
        name: Its path in the model.
        type: The public name of its class; ``torch.nn.Module`` for one that only holds others.
        config: The arguments of its constructor.
    """

    name: Name
    type: Name
    config: dict[str, Argument] = Field(default={})


class ParameterSpec(StrictModel):
    """One parameter.

    Args:
        name: Its path in the model.
        shape: Its shape.
        dtype: Its dtype.
        requires_grad: Whether it receives gradients.
        tied_to: The earlier parameter that is the same object.
    """

    name: Name
    shape: Shape
    dtype: DType
    requires_grad: bool = True
    tied_to: Name | None = None


class BufferSpec(StrictModel):
    """One buffer.

    Args:
        name: Its path in the model.
        shape: Its shape.
        dtype: Its dtype.
        persistent: Whether a state dict holds it. The values of the others are saved as well,
            because no constructor recomputes them.
        tied_to: The earlier buffer that is the same object.
    """

    name: Name
    shape: Shape
    dtype: DType
    persistent: bool = True
    tied_to: Name | None = None


class SiteSpec(StrictModel):
    """One axis of one parameter or buffer that a width reaches.

    Args:
        parameter: The parameter or buffer.
        axis: The axis.
        role: Whether the width's neurons are written, carried along or read there.
    """

    parameter: str
    axis: Annotated[int, Field(ge=0, lt=limits.AXES)]
    role: Literal["writes", "carries", "reads"]


class RefusalSpec(StrictModel):
    """Why a width cannot grow.

    Args:
        code: The code of the refusal.
        reason: A sentence.
        nodes: The nodes that are to blame.
    """

    code: str
    reason: str
    nodes: tuple[str, ...] = ()


class WidthSpec(StrictModel):
    """An ordered set of neurons with the same sites.

    Args:
        name: Its name.
        size: Its number of neurons.
        granule: How many rows of its writer one neuron owns.
        sites: The axes that it reaches.
        growable: Whether it can grow.
        refusal: Why not, if it cannot.
    """

    name: str
    size: Size
    granule: Annotated[Size, Field(ge=1)] = 1
    sites: tuple[SiteSpec, ...] = ()
    growable: bool
    refusal: RefusalSpec | None = None


class Cost(StrictModel):
    """What a model costs.

    Args:
        parameters: Elements of its parameters, tied ones once.
        multiply_adds: Multiply-adds of one forward pass over the example inputs.
    """

    parameters: Count
    multiply_adds: Count


class MethodRecord(StrictModel):
    """A growth method with its settings.

    Args:
        name: The method's name.
        settings: Its settings, as JSON.
    """

    name: str
    settings: dict[str, JsonValue] = Field(default={})


class WidthChange(StrictModel):
    """One width in one growth step.

    Args:
        width: The width's name.
        before: Its number of neurons before the step.
        after: Its number of neurons after the step.
        split: How many neurons were split.
        new: How many neurons are new.
        neurons: Which neurons were split, by their number before the step, once per copy. Empty in
            specs of schema version 1, which did not record it.
        scores: The scores of the neurons that were chosen.
    """

    width: str
    before: Size
    after: Size
    split: Added = 0
    new: Added = 0
    neurons: Annotated[tuple[Count, ...], Field(max_length=limits.NEURONS)] = ()
    scores: tuple[Score, ...] = ()


class LayerInsertion(StrictModel):
    """One layer that a growth step inserted.

    Args:
        name: The name of its module.
        after: The node that it follows.
        score: Its score.
        neurons: Its hidden neurons.
        form: What kind of layer it is. None: a spec of schema version 1, which did not record it.
        norm: Whether it contains a batch norm. None: as for ``form``.
    """

    name: str
    after: str
    score: Score | None = None
    neurons: Added = 0
    form: Literal["convolution", "depthwise", "token"] | None = None
    norm: bool | None = None


class BlockRegion(StrictModel):
    """The nodes of one block in the graph before a step.

    Args:
        first: Its first node.
        last: Its last node; all between the two belong to it.
    """

    first: Name
    last: Name


class BlockInsertion(StrictModel):
    """A list of blocks that a growth step made longer by copies of some of them.

    Args:
        blocks: The path of the list.
        sources: For each block of the longer list the number, before the step, of the block that
            it is or is a copy of.
        new: The places of the copies in the longer list.
        names: The names of the blocks in the longer list.
        regions: Where the blocks before the step stand in the graph, in their order; empty if the
            graph does not tell, so that only a model of the same class can grow so again.
        scores: The scores of the copies, in the order of ``new``; empty if nothing scored them.
    """

    blocks: Name
    sources: Annotated[tuple[Count, ...], Field(max_length=limits.BLOCKS)]
    new: Annotated[tuple[Count, ...], Field(max_length=limits.BLOCKS)]
    names: Annotated[tuple[Name, ...], Field(max_length=limits.BLOCKS)]
    regions: Annotated[tuple[BlockRegion, ...], Field(max_length=limits.BLOCKS)] = ()
    scores: tuple[Score, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of all blocks of the longer list."""
        return tuple(f"{self.blocks}.{name}".removeprefix(".") for name in self.names)

    @property
    def new_paths(self) -> tuple[str, ...]:
        """The paths of the copies."""
        return tuple(self.paths[place] for place in self.new)


class GrowthStep(StrictModel):
    """One growth step. Errors and losses that were not measured are None.

    Args:
        parent: The fingerprint of the architecture before the step.
        method: The growth method.
        budget: The budget that was given.
        widths: The widths that grew.
        layers: The layers that were inserted.
        blocks: The lists of blocks that got longer; of the model before the widths grew.
        ties: Names of widths that grew alike.
        cost_before: The cost before the step.
        cost_after: The cost after the step.
        faithful_error: Relative difference of outputs between the grown model and the over-grown
            graph with the candidates that were not selected switched off.
        preservation_error: Relative difference of outputs between the model before the step and
            the grown model with eps = 0, which should be none.
        loss_before: Loss before the step, on the growth batches that candidates were scored on.
        loss_after: Loss on them after the step.
        held_out_before: Loss before the step, on growth batches that decided nothing.
        held_out_after: Loss on them after the step.
        backtracks: How often the step size was halved.
    """

    parent: Digest
    method: MethodRecord
    budget: dict[str, JsonValue] = Field(default={})
    widths: tuple[WidthChange, ...] = ()
    layers: tuple[LayerInsertion, ...] = ()
    blocks: tuple[BlockInsertion, ...] = ()
    ties: tuple[tuple[str, ...], ...] = ()
    cost_before: Cost
    cost_after: Cost
    faithful_error: float | None = None
    preservation_error: float | None = None
    loss_before: float | None = None
    loss_after: float | None = None
    held_out_before: float | None = None
    held_out_after: float | None = None
    backtracks: Count = 0

    @property
    def num_blocks(self) -> int:
        """How many blocks were added to all lists."""
        return sum(len(record.new) for record in self.blocks)


class WeightsSpec(StrictModel):
    """The weights file that belongs to a spec.

    Args:
        sha256: The SHA-256 of the file.
    """

    sha256: Digest


class ArchitectureSpec(StrictModel):
    """A model without its weights.

    Args:
        schema_version: The version of the document.
        fingerprint: A hash over inputs, nodes, modules and tensors, and nothing else.
        inputs: The example inputs.
        nodes: The nodes of the graph in execution order.
        modules: The modules that the graph calls, and those that contain modules or tensors.
        parameters: The parameters.
        buffers: The buffers.
        widths: The widths of the model.
        history: The growth steps that led to it, oldest first.
        cost: What one forward pass costs.
        weights: The weights file; None: the architecture was written without weights.
        versions: Versions of the packages that wrote the spec.

    Example:
        >>> spec = fxgrow.save(growth, "runs/grown")
        >>> spec.fingerprint == read_spec(Path("runs/grown")).fingerprint
        True
    """

    schema_version: Literal[3]
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
        """Hash by fingerprint: the fields contain dicts, which have no hash."""
        return hash(self.fingerprint)


def to_json(spec: StrictModel) -> Any:
    """The JSON value of a model; fields at their default are left out."""
    return spec.model_dump(mode="json", exclude_defaults=True)
