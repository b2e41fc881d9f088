"""A layer of the over-grown graph: a product with a weight, and the candidates that touch it.

Reference: Wu, Liu, Stone, Liu, "Firefly Neural Architecture Descent", NeurIPS 2020, Eqs. 3 and 4.
One layer W with input x (the mean of the two halves of the split neurons that it reads) computes

    z   = W x + sum_w C_w (eps_new * x_w)    the base layer, plus the new neurons x_w of each width
                                             that it reads
    z +- eps_split * (D x)                   the two halves of the neurons that it writes (or the
                                             first alone)
    R x                                      the new neurons that it writes

Of a width under norms eps_new multiplies R in place of C_w (see ``norms``).

with W, D and R in *one* product of concatenated weights. W is frozen: it gets no gradient.

How we differ: candidate weights are in units of the layer's own, ``unit_row`` the mean norm of its
rows with their biases and ``unit_column`` that of its columns, so that ||delta|| <= 1 and
|eps| <= eps mean the same in every layer. They are ``[out, in, ...]`` in whatever layout the
parameter is. At the blank neurons of a candidate layer, which emission drops, no candidate has
entries: C_w has none in their rows, D and R none in their columns.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fxgrow.errors import InternalError
from fxgrow.rewrite.candidates import Slots
from fxgrow.rewrite.linear_op import (
    LinearOp,
    blockwise_apply,
    join_channels,
    split_rows,
    stack_rows,
)

UNIT_SCALE = 3**-0.5
"""The norm of a row as torch draws them, uniform in +-1 / sqrt(fan in).

It is the unit of a layer whose weights are zero, or that has none.
"""


class WeightBlock(NamedTuple):
    """Some rows of a layer: those of its weight, its bias and the others that these are made of."""

    weight: Tensor
    bias: Tensor | None
    others: tuple[Tensor, ...] = ()

    def tensors(self) -> list[Tensor]:
        """The weight, the others, and the bias if there is one."""
        biases = [] if self.bias is None else [self.bias]
        return [self.weight, *self.others, *biases]


class CandidateBlocks(NamedTuple):
    """The weights of a layer's candidates, in the units of its own and times their eps.

    Args:
        perturbation: eps_i delta_i of every row, zero where it is no candidate; None if none is.
        incoming: the rows of all new neurons that the layer writes; None if it writes none.
        columns: eps_j times the columns of the new neurons that it reads, of each width.
        joined: [W; eps D; R], in place of these rows where those of several layers were put
            together at once; None: the layer does it.
    """

    perturbation: WeightBlock | None
    incoming: WeightBlock | None
    columns: tuple[Tensor, ...]
    joined: WeightBlock | None = None


class Kept(NamedTuple):
    """Where candidates have entries in a weight: 1, and 0 at the blank neurons of candidate layers.

    Blank neurons are dropped at emission, and entries at them would be lost without a trace.

    Args:
        rows: one number per row; None if no row belongs to a blank neuron.
        columns: one number per column; None if no column does.
    """

    rows: Tensor | None = None
    columns: Tensor | None = None


class OvergrownLayer(nn.Module):
    """A product and its candidates.

    Args:
        product: what the layer computes.
        weight: the model's own weight, in the parameter's layout.
        bias: the model's own bias, if it has one.
        split: ``split[row]`` is the index in ``split_eps`` of the neuron that a row writes, -1 for
            none; None if no row is a split candidate.
        rows: the new neurons that the layer writes, one entry per width, along the oriented weight.
        columns: the new neurons that it reads, likewise.
        halves: a split candidate stands for two neurons, else for the first alone.
        kept: the rows and columns at which candidates have entries; None: everywhere.
        others: the other parameters that the weight or the bias is computed of.
        gain: in weight normalization the place in ``product.names`` of the norms of the rows.
    """

    weight: Tensor
    bias: Tensor | None
    kept_rows: Tensor | None
    kept_columns: Tensor | None
    split: Tensor | None
    eps_of_rows: Tensor | None
    unit_row: Tensor
    unit_column: Tensor

    def __init__(
        self,
        product: LinearOp,
        weight: Tensor,
        bias: Tensor | None,
        split: Tensor | None,
        rows: Sequence[Slots],
        columns: Sequence[Slots],
        halves: bool = True,
        kept: Kept | None = None,
        others: Sequence[Tensor] = (),
        gain: int | None = None,
    ) -> None:
        super().__init__()
        self.halves = halves
        self.gain = gain
        self.product = product
        self.rows = tuple(rows)
        self.columns = tuple(columns)
        self.weight = weight
        self.bias = bias
        self._lists: dict[str, tuple[str, ...]] = {}
        self._register("others", others)
        kept = kept or Kept()
        # Numbers as tensors: an operator converts a plain one anew in each pass.
        row, column = map(weight.new_tensor, _units(self.base()))
        buffers = {"split": split, "kept_rows": kept.rows, "kept_columns": kept.columns}
        buffers["eps_of_rows"] = _eps_of_rows(rows)
        buffers |= {"unit_row": row, "unit_column": column}
        for name, buffer in buffers.items():
            placed = None if buffer is None else buffer.to(weight.device)
            self.register_buffer(name, placed, persistent=False)
        # Candidates start at zero, so that the graph computes what the model does.
        base = self.base().weight.detach()  # [out, in, ...]
        self._register("delta", self._zeros(len(base)) if split is not None else ())
        self._row_counts = [len(slots.candidate) for slots in rows]
        self.num_new_rows = sum(self._row_counts)
        self._register("new", self._zeros(self.num_new_rows) if self.num_new_rows else ())
        outgoing = []
        for slots in columns:
            shape = (base.shape[0], len(slots.candidate), *base.shape[2:])
            outgoing.append(nn.Parameter(base.new_zeros(shape)))
        self._register("outgoing", outgoing)
        perturbed = [len(base)] if split is not None else []
        new_rows = [self.num_new_rows] if self.num_new_rows else []
        self._sizes = [len(base), *perturbed, *new_rows]  # of [W; eps D; R]

    def _register(self, name: str, parameters: Iterable[Tensor]) -> None:
        """Register parameters under one name; read in every pass, a ``ParameterList`` is slow."""
        names = []
        for number, parameter in enumerate(parameters):
            names.append(f"{name}_{number}")
            self.register_parameter(names[-1], parameter)  # type: ignore[arg-type]
        self._lists[name] = tuple(names)

    def names_of(self, name: str) -> tuple[str, ...]:
        """The parameters that are registered as ``delta``, ``new`` or ``outgoing``."""
        return self._lists[name]

    def _registered(self, name: str) -> list[nn.Parameter]:
        return [getattr(self, one) for one in self._lists[name]]

    @property
    def delta(self) -> list[nn.Parameter] | None:
        """The directions of the rows, of each of the parameters; None: no row can split."""
        return self._registered("delta") or None

    @property
    def new(self) -> list[nn.Parameter] | None:
        """The rows of all new neurons, of each of the parameters; None: it writes none."""
        return self._registered("new") or None

    @property
    def outgoing(self) -> list[nn.Parameter]:
        """The columns of new neurons, for each of ``columns``."""
        return self._registered("outgoing")

    def base(self) -> WeightBlock:
        """All rows of the layer without candidates; the weight is ``[out, in / groups, ...]``."""
        others = tuple(self.product.oriented(tensor) for tensor in self._registered("others"))
        return WeightBlock(self.product.oriented(self.weight), self.bias, others)

    def _zeros(self, count: int) -> list[nn.Parameter]:
        """Zeros for ``count`` rows like those of the layer."""
        zeros = []
        for tensor in self.base().tensors():
            zeros.append(nn.Parameter(tensor.new_zeros((count, *tensor.shape[1:]))))
        return zeros

    @property
    def is_plain(self) -> bool:
        """Whether it applies the rows [W; eps D; R] as they are, one below the other."""
        form = self.product.form
        return form.additive and form.groups == 1 and not self.product.is_computed

    def rows_of(self, number: int, incoming: WeightBlock | None) -> list[Tensor]:
        """Those of ``rows[number]`` among the rows of new neurons."""
        if incoming is None:
            return []
        return [tensor.split(self._row_counts)[number] for tensor in incoming.tensors()]

    def new_weight_rows(self, number: int, blocks: CandidateBlocks) -> Tensor:
        """The rows of the weight that write those of ``rows[number]``, oriented."""
        if blocks.incoming is not None:
            rows = blocks.incoming.weight
        elif blocks.joined is not None:
            rows = blocks.joined.weight[-self.num_new_rows :]
        else:
            raise InternalError("a layer that writes no new neurons was asked for their rows")
        of_width: Tensor = rows.split(self._row_counts)[number]
        return of_width

    def forward(
        self,
        plus: Tensor,
        minus: Tensor | None,
        lanes: Sequence[Tensor],
        blocks: CandidateBlocks,
        *more: Any,
    ) -> list[Tensor]:
        """The layer and its candidates.

        Args:
            plus: the first half of the input.
            minus: the second half; None if it is the same.
            lanes: the new neurons of each of ``columns``.
            blocks: the weights of its candidates, as ``scaled_candidates`` gives them.
            more: what the product's form takes besides.

        Returns:
            ``[z]``, ``[z + dz, z - dz]`` or, without halves, ``[z + dz]``; then the new neurons of
            each of ``rows``.
        """
        x = plus if minus is None else torch.lerp(plus, minus, 0.5)
        if self.product.is_computed or not self.product.form.additive:
            return self._row_by_row(x, lanes, blocks, more)
        form = self.product.form
        # One product for all rows: [W; eps D; R] x.
        if blocks.joined is not None:
            rows, bias, _ = blocks.joined
            z, *parts = split_rows(form(x, rows, bias, more), self._sizes, form)
        else:
            candidate_rows = (blocks.perturbation, blocks.incoming)
            own = [(block.weight, block.bias) for block in candidate_rows if block is not None]
            base = self.product.oriented(self.weight), self.bias
            z, *parts = blockwise_apply(form, x, base, own, more)
        for lane, columns in zip(lanes, blocks.columns, strict=True):
            z = z + form(lane, columns, None, more)
        # New tensors, not views of one product: what follows may work in place.
        if len(parts) > bool(self.num_new_rows):
            dz = parts[0]
            out = [z + dz, z - dz] if self.halves else [z + dz]
        else:
            out = [z if lanes else z.clone()]
        if len(self.rows) > 1:
            parts[-1:] = parts[-1].split(self._row_counts, dim=form.row_dim or 0)
        return out + [lane.clone() for lane in parts[len(parts) - len(self.rows) :]]

    def _row_by_row(
        self,
        x: Tensor,
        lanes: Sequence[Tensor],
        candidates: CandidateBlocks,
        more: Sequence[Any],
    ) -> list[Tensor]:
        """What ``forward`` gives, of a weight that is a nonlinear function of its parameters.

        The rows [theta + eps delta, theta - eps delta, new neurons] of the parameters, beside which
        lie the columns that read new neurons, make one larger weight. This costs a product with the
        base layer more than where perturbations can be added to what it gives.
        """
        blocks = self.row_blocks(candidates)
        num_old = len(blocks) - len(self.rows)
        for number, block in enumerate(blocks):
            is_old = number < num_old  # a new neuron reads no other one
            beside = [
                columns if is_old else columns.new_zeros((len(block[0]), *columns.shape[1:]))
                for columns in candidates.columns
            ]
            longer = torch.cat([block[0], *beside], 1)
            if self.gain is not None:
                # As emission does: g |[v, c]| / |v|, so that what v computes stays as it is.
                block[self.gain] = block[self.gain] * _stretch(block[0], longer, block[self.gain])
            block[0] = longer
        form = self.product.form
        tensors = [stack_rows(rows, form.groups) for rows in zip(*blocks, strict=True)]
        weight, bias = self.product.weight_and_bias(tensors)
        out = form(join_channels([x, *lanes], form) if lanes else x, weight, bias, more)
        parts = split_rows(out, [len(block[0]) for block in blocks], form)
        return [part.clone() for part in parts]

    def row_blocks(self, candidates: CandidateBlocks) -> list[list[Tensor]]:
        """All rows of the layer's parameters with its candidates, in the order of its results.

        Args:
            candidates: as ``scaled_candidates`` gives them.

        Returns:
            First halves, second halves if there are some, and the new neurons of each of ``rows``:
            for each of these one tensor per parameter.
        """
        base = [tensor.detach() for tensor in self.base().tensors()]
        if candidates.perturbation is None:
            blocks = [base]
        else:
            moved = candidates.perturbation.tensors()
            blocks = [[own + delta for own, delta in zip(base, moved, strict=True)]]
            if self.halves:
                blocks.append([own - delta for own, delta in zip(base, moved, strict=True)])
        return blocks + [self.rows_of(i, candidates.incoming) for i in range(len(self.rows))]


def _eps_of_rows(rows: Sequence[Slots]) -> Tensor | None:
    """For each row of a new neuron which eps multiplies it, -1 for none; None: none has one."""
    if not any(slots.by_writers for slots in rows):
        return None
    places = []
    for slots in rows:
        none = torch.full_like(slots.candidate, -1)
        places.append(slots.candidate if slots.by_writers else none)
    return torch.cat(places)


def _units(base: WeightBlock) -> tuple[float, float]:
    """The mean norm of a layer's rows with their biases, and that of its columns."""
    weight = base.weight.detach()  # [out, in, ...]
    if not weight.numel():  # a layer without rows or without columns
        return UNIT_SCALE, UNIT_SCALE
    theta = torch.cat([part.detach().reshape(len(weight), -1) for part in base.tensors()], 1)
    row = float(theta.norm(dim=1).mean()) or UNIT_SCALE
    column = float(weight.transpose(0, 1).flatten(1).norm(dim=1).mean()) or UNIT_SCALE
    return row, column


def _stretch(rows: Tensor, longer: Tensor, gain: Tensor) -> Tensor:
    """How many times as long rows are as they were, in the shape of their gain; 1 for zeros."""
    norms = torch.linalg.vector_norm(rows.flatten(1), dim=1)
    longer_norms = torch.linalg.vector_norm(longer.flatten(1), dim=1)
    return torch.where(norms > 0, longer_norms / norms, 1.0).reshape(gain.shape)
