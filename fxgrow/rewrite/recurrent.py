"""Recurrent layers of the over-grown graph: one wider layer of the same kind.

Every weight of a recurrent layer is a product like that of any other layer, so its candidates are
held by an ``OvergrownLayer``. They act at every step, on the state that they have changed in the
step before. All lanes of the state therefore run in *one* layer, whose units are, gate by gate,

    [first halves, second halves, new neurons]

With W the frozen weight, D its perturbation, R the rows of new neurons, C the columns that read
them, and halves that share a column, a weight that reads a state is, per gate,

    [(W + eps D) / 2   (W + eps D) / 2   C]
    [(W - eps D) / 2   (W - eps D) / 2   C]
    [          R / 2             R / 2   0]

which is what emission writes into the weight, for all candidates at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn.utils.rnn import PackedSequence

from fxgrow.rewrite.candidate_scaling import CandidateScaling
from fxgrow.rewrite.linear_op import LinearOp
from fxgrow.rewrite.operators import LINEAR_FORM
from fxgrow.rewrite.overgrown_layer import OvergrownLayer

LAYER_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}
CELL_GATES: dict[type[nn.Module], int] = {nn.LSTMCell: 4, nn.GRUCell: 3, nn.RNNCell: 1}
RECURRENT_TYPES = (nn.LSTM, nn.GRU, nn.RNN, *CELL_GATES)
"""The recurrent modules that have an over-grown form. Exactly these: a subclass may differ."""

INPUT, OUTPUT, HIDDEN = "input", "output", "hidden"
"""What a weight reads: the module's input, what it gives out (projected, if it is), its state."""


class RecurrentWeight(NamedTuple):
    """One weight of a recurrent module, and how the module uses it.

    Args:
        suffix: its parameters are ``weight_{suffix}`` and ``bias_{suffix}``.
        gates: how many rows a neuron of the state owns.
        reads: what its columns read: ``INPUT``, ``OUTPUT`` or ``HIDDEN``.
        copies: how many states its columns read, side by side (those of both directions).
    """

    suffix: str
    gates: int
    reads: str
    copies: int = 1

    def product(self, module: nn.Module, names: Mapping[int, str]) -> LinearOp | None:
        """The weight as a product; None if it or its bias is no parameter of the model.

        Args:
            module: the recurrent module.
            names: the name of every parameter, by its ``id``.
        """
        weight = names.get(id(getattr(module, f"weight_{self.suffix}")))
        bias = getattr(module, f"bias_{self.suffix}", None)
        bias_name = None if bias is None else names.get(id(bias))
        if weight is None or (bias is not None and bias_name is None):
            return None
        return LinearOp(weight, bias_name, LINEAR_FORM)


def recurrent_module(root: nn.Module, node: fx.Node) -> nn.Module | None:
    """The recurrent module that a node calls; None if it calls none that has an over-grown form."""
    if node.op != "call_module":
        return None
    module = root.get_submodule(str(node.target))
    return module if type(module) in RECURRENT_TYPES else None


def recurrent_weights(module: Any) -> tuple[RecurrentWeight, ...]:
    """All weights of a module of one of ``RECURRENT_TYPES``, one that writes its state first."""
    if isinstance(module, nn.RNNCellBase):
        gates = CELL_GATES[type(module)]
        return (RecurrentWeight("ih", gates, INPUT), RecurrentWeight("hh", gates, OUTPUT))
    gates = LAYER_GATES[module.mode]
    copies = _directions(module)
    weights = []
    for number in range(module.num_layers):
        for direction in ("", "_reverse")[:copies]:
            suffix = f"l{number}{direction}"
            if number == 0:
                weights.append(RecurrentWeight(f"ih_{suffix}", gates, INPUT))
            else:
                weights.append(RecurrentWeight(f"ih_{suffix}", gates, OUTPUT, copies))
            weights.append(RecurrentWeight(f"hh_{suffix}", gates, OUTPUT))
            if module.proj_size:
                weights.append(RecurrentWeight(f"hr_{suffix}", 1, HIDDEN))
    return tuple(weights)


def _directions(module: Any) -> int:
    return 2 if getattr(module, "bidirectional", False) else 1


@dataclass(frozen=True)
class RowLayout:
    """What lies along one axis of the wider module.

    Args:
        old: how many neurons the axis has in the model.
        is_split: whether the second halves of these follow.
        new: how many new neurons of each width come next, by the number of the width, ascending.
        padding: how many units that are always zero come last.
    """

    old: int
    is_split: bool
    new: Mapping[int, int]
    padding: int = 0

    @property
    def size(self) -> int:
        """The number of units."""
        return self._end_of_old + sum(self.new.values()) + self.padding

    @property
    def _end_of_old(self) -> int:
        return self.old * (1 + self.is_split)

    def lane(self, state: Tensor, copies: int, width: int | None, minus: bool) -> Tensor:
        """One lane of a state, or of several states side by side.

        Args:
            state: ``[..., copies * size]``.
            copies: how many states.
            width: the new neurons of this width; None, or one that is not here: the old ones.
            minus: the second halves of the old ones, if there are some.

        Returns:
            The lane of all the states, side by side.
        """
        start, count = self.old * (minus and self.is_split), self.old
        if width is not None and width in self.new:
            before = [size for number, size in self.new.items() if number < width]
            start, count = self._end_of_old + sum(before), self.new[width]
        by_copy = state.unflatten(-1, (copies, self.size))
        # A clone, not a view of all lanes: what follows may work in place.
        lane: Tensor = by_copy[..., start : start + count].flatten(-2).clone()
        return lane

    def state(self, plus: Tensor, minus: Tensor | None, new: Mapping[int, Tensor]) -> Tensor:
        """The state whose lanes these are.

        Args:
            plus: the old neurons, or their first halves.
            minus: their second halves; None if they are the same.
            new: new neurons by width. A width that is left out starts as the old neurons do, which
                are then all the same.
        """
        parts = [plus]
        if self.is_split:
            parts.append(plus if minus is None else minus)
        for width, count in self.new.items():
            parts.append(new[width] if width in new else _repeated(plus[..., :1], count))
        parts.append(_repeated(torch.zeros_like(plus[..., :1]), self.padding))
        return torch.cat(parts, -1)

    def columns(self, weight: Tensor, new: Sequence[Tensor], copies: int) -> Tensor:
        """Columns that read such states, so that both halves share those of the old neurons.

        Args:
            weight: ``[rows, copies * old]``.
            new: per width ``[rows, copies * new neurons]``.
            copies: how many states are read, side by side.
        """
        weight_by_copy = weight.unflatten(1, (copies, -1))
        new_by_copy = [block.unflatten(1, (copies, -1)) for block in new]
        parts = []
        for copy in range(copies):
            own = weight_by_copy[:, copy]
            parts += [own / 2, own / 2] if self.is_split else [own]
            parts += [block[:, copy] for block in new_by_copy]
            parts.append(weight.new_zeros((len(weight), self.padding)))
        return torch.cat(parts, 1)


def _repeated(column: Tensor, count: int) -> Tensor:
    return column.expand(*column.shape[:-1], count)


def _row_layout(layer: OvergrownLayer, gates: int) -> RowLayout:
    """How the neurons lie that a weight writes."""
    new = {slots.width: len(slots.candidate) // gates for slots in layer.rows}
    is_split = layer.delta is not None and layer.halves
    return RowLayout(layer.base().weight.shape[0] // gates, is_split, new)


class OvergrownRecurrent(nn.Module):
    """A recurrent module and its candidates, as one wider module.

    Args:
        module: the model's own module.
        layers: the candidates of each of its ``recurrent_weights``.
    """

    def __init__(self, module: Any, layers: Sequence[OvergrownLayer]) -> None:
        super().__init__()
        self.kind = type(module)
        self.settings = _settings(module)
        self.is_cell = isinstance(module, nn.RNNCellBase)
        self.copies = _directions(module)
        self.weights = recurrent_weights(module)
        self.layers = nn.ModuleList(layers)
        self.scaling = CandidateScaling(layers, join=False)
        first = layers[0]
        columns = {slots.width: len(slots.candidate) for slots in first.columns}
        hidden = _row_layout(first, self.weights[0].gates)
        output = hidden
        for weight, layer in zip(self.weights, layers, strict=True):
            if weight.reads == HIDDEN:
                output = _row_layout(layer, 1)
        # Torch tells by the two sizes whether there are projections: the state must be larger.
        if output is not hidden and output.size >= hidden.size:
            padding = output.size + 1 - hidden.size
            hidden = RowLayout(hidden.old, hidden.is_split, hidden.new, padding)
        self.layouts = {
            INPUT: RowLayout(first.base().weight.shape[1], is_split=False, new=columns),
            OUTPUT: output,
            HIDDEN: hidden,
        }
        # A long short-term memory keeps its hidden state beside what it gives out.
        has_memory = issubclass(self.kind, (nn.LSTM, nn.LSTMCell))
        self.states = (output, hidden) if has_memory else (output,)

    @property
    def has_halves(self) -> bool:
        """Whether the second halves have a lane of their own."""
        return any(layout.is_split for layout in self.states)

    @property
    def new_widths(self) -> tuple[int, ...]:
        """The widths whose new neurons have a lane, ascending."""
        return tuple(sorted({width for layout in self.states for width in layout.new}))

    @property
    def input_widths(self) -> tuple[int, ...]:
        """The widths whose new neurons the input has, ascending."""
        return tuple(self.layouts[INPUT].new)

    def forward(
        self,
        plus: Any,
        minus: Any,
        lanes: Sequence[Any],
        state: Sequence[Any],
        split_eps: Tensor,
        new_eps: Tensor,
    ) -> list[Any]:
        """The module and its candidates.

        Args:
            plus: the first half of the input, a tensor or a packed sequence.
            minus: the second half; None if it is the same.
            lanes: the new neurons of each width that the input has, ascending.
            state: the state it starts from: first halves, second halves, and the new neurons of
                each of ``new_widths``; each a tensor, several or None.
            split_eps: the eps of all split candidates.
            new_eps: the eps of all new neurons.

        Returns:
            The module's results: of first halves, of second halves if ``has_halves``, and of the
            new neurons of each of ``new_widths``.
        """
        x = _joined(plus, minus, lanes)
        weights = self._wider_weights(split_eps, new_eps)
        sizes = {"input_size": self.layouts[INPUT].size, "hidden_size": self.layouts[HIDDEN].size}
        if issubclass(self.kind, nn.LSTM) and self.layouts[OUTPUT] is not self.layouts[HIDDEN]:
            sizes["proj_size"] = self.layouts[OUTPUT].size
        # Made anew each time: a recurrent module keeps the weights that it was called with. In
        # training mode, as cuDNN gives no gradients in evaluation mode; there is no dropout.
        wider = self.kind(**self.settings, **sizes, device="meta")
        result = functional_call(wider, weights, (x, self._start(state)))
        out = [self._lane(result, None, minus=False)]
        if self.has_halves:
            out.append(self._lane(result, None, minus=True))
        return out + [self._lane(result, width, minus=False) for width in self.new_widths]

    def _wider_weights(self, split_eps: Tensor, new_eps: Tensor) -> dict[str, Tensor]:
        """The parameters of the wider module by name."""
        wider = {}
        of_layers = self.scaling(split_eps, new_eps)
        for weight, layer, candidates in zip(self.weights, self.layers, of_layers, strict=True):
            reads = self.layouts[weight.reads]
            padding = self.layouts[HIDDEN].padding if weight.reads != HIDDEN else 0
            outgoing = candidates.columns
            row_blocks = layer.row_blocks(candidates)  # type: ignore[operator]
            num_old = len(row_blocks) - len(layer.rows)  # type: ignore[arg-type]
            biases = [block[1] for block in row_blocks if len(block) > 1]
            blocks = []
            for number, (rows, *_) in enumerate(row_blocks):
                is_old = number < num_old  # a new neuron reads no other one
                none = [column.new_zeros((len(rows), column.shape[1])) for column in outgoing]
                blocks.append(reads.columns(rows, outgoing if is_old else none, weight.copies))
            wider[f"weight_{weight.suffix}"] = _by_gate(blocks, weight.gates, padding)
            if biases:
                wider[f"bias_{weight.suffix}"] = _by_gate(biases, weight.gates, padding)
        return wider

    def _start(self, state: Sequence[Any]) -> Any:
        """The state that the wider module starts from, of the lanes of its parts."""
        plus, minus, *new = state
        if plus is None:
            return None
        starts = []
        for part, layout in enumerate(self.states):
            new_of_part = {}
            for width, lane in zip(self.new_widths, new, strict=True):
                entry = _part(lane, part)
                if entry is not None:
                    new_of_part[width] = entry
            starts.append(layout.state(_part(plus, part), _part(minus, part), new_of_part))
        return tuple(starts) if len(starts) > 1 else starts[0]

    def _lane(self, result: Any, width: int | None, minus: bool) -> Any:
        """One lane of all that the wider module gives."""
        out: Any
        out, state = (None, result) if self.is_cell else result
        states = state if isinstance(state, tuple) else (state,)
        lanes = []
        for part, layout in zip(states, self.states, strict=True):
            lanes.append(layout.lane(part, 1, width, minus))
        state_lane = tuple(lanes) if len(lanes) > 1 else lanes[0]
        if self.is_cell:
            return state_lane
        output = self.layouts[OUTPUT]
        if isinstance(out, PackedSequence):
            return out._replace(data=output.lane(out.data, self.copies, width, minus)), state_lane
        return output.lane(out, self.copies, width, minus), state_lane


def _settings(module: Any) -> dict[str, Any]:
    """What a module is made with, but for its sizes and its dropout."""
    if isinstance(module, nn.RNNCellBase):
        settings: dict[str, Any] = {"bias": module.bias}
    else:
        names = ("num_layers", "bias", "batch_first", "bidirectional")
        settings = {name: getattr(module, name) for name in names}
    if isinstance(module, (nn.RNN, nn.RNNCell)):
        settings["nonlinearity"] = module.nonlinearity
    return settings


def _joined(plus: Any, minus: Any, lanes: Sequence[Any]) -> Any:
    """The mean of both halves of an input, and beside it the new neurons of each width."""
    if isinstance(plus, PackedSequence):
        second = None if minus is None else minus.data
        return plus._replace(data=_joined(plus.data, second, [lane.data for lane in lanes]))
    mean = plus if minus is None else (plus + minus) / 2
    return torch.cat([mean, *lanes], -1)


def _part(state: Any, part: int) -> Any:
    """One of the tensors of a state, which may be one tensor, several or none."""
    return state[part] if isinstance(state, (list, tuple)) else state


def _by_gate(blocks: Sequence[Tensor], gates: int, padding: int) -> Tensor:
    """Blocks of rows, each with the rows of all gates, joined gate by gate; zeros come last."""
    by_gate = [block.unflatten(0, (gates, -1)) for block in blocks]
    if padding:
        by_gate.append(by_gate[0].new_zeros((gates, padding, *by_gate[0].shape[2:])))
    return torch.cat(by_gate, 1).flatten(0, 1)
