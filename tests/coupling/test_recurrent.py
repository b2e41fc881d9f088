"""Recurrent layers and cells: one hidden size for all layers and directions, rows of all gates, exact growth."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import fxgrow
from fxgrow.coupling import Role, couple
from tests.coupling.hand_written_cells import HAND_WRITTEN, rows
from tests.coupling.models import Net

Case = Callable[[], tuple[nn.Module, tuple[Any, ...]]]


def sequences(steps: int = 5) -> Tensor:
    """Two sequences of three features."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, steps, 3, generator=generator, dtype=torch.float64)


def _net(forward: Callable[..., Any], rnn: nn.Module, read: int) -> Net:
    torch.manual_seed(0)
    return Net(forward, a=nn.Linear(3, 5), rnn=rnn, b=nn.Linear(read, 2)).double()


def _over_all(kind: type[nn.Module], read: int = 4, hidden: int = 4, **settings: Any) -> Case:
    """Linear, recurrent layer, linear, over padded sequences."""

    def forward(net: Any, x: Tensor) -> Tensor:
        return net.b(net.rnn(torch.relu(net.a(x)))[0])

    return lambda: (_net(forward, kind(5, hidden, **settings), read), (sequences(),))


class Packed(nn.Module):
    """Sequences of different lengths, packed."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.a, self.rnn, self.b = nn.Linear(3, 5), rnn, nn.Linear(8, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.a(x), lengths, batch_first=True, enforce_sorted=False)
        out, _ = nn.utils.rnn.pad_packed_sequence(
            self.rnn(packed)[0], batch_first=True, total_length=6
        )
        return self.b(out)


def _packed(kind: type[nn.Module], **settings: Any) -> Case:
    def make() -> tuple[nn.Module, tuple[Any, ...]]:
        rnn = kind(5, 4, batch_first=True, bidirectional=True, **settings)
        return Packed(rnn).double(), (sequences(), torch.tensor([3, 5]))

    return make


def _last_state() -> tuple[nn.Module, tuple[Any, ...]]:
    def forward(net: Any, x: Tensor) -> Tensor:
        _, (h, c) = net.rnn(net.a(x))
        return net.b(torch.cat([h[-2], h[-1], c[0]], -1))

    return _net(forward, nn.LSTM(5, 4, bidirectional=True, batch_first=True), 12), (sequences(),)


def _steps(kind: type[nn.Module], steps: int = 4) -> Case:
    """A loop over a cell, from no state."""

    def forward(net: Any, x: Tensor) -> Tensor:
        state = None
        for step in range(x.shape[1]):
            state = net.rnn(net.a(x[:, step]), state)
        return net.b(state[0] if kind is nn.LSTMCell else state)

    return lambda: (_net(forward, kind(5, 4), 4), (sequences(steps),))


def _learned_state() -> tuple[nn.Module, tuple[Any, ...]]:
    def forward(net: Any, x: Tensor) -> Tensor:
        return net.b(net.rnn(net.a(x), net.start.repeat(1, x.shape[0], 1))[0])

    net = _net(forward, nn.GRU(5, 4, batch_first=True), 4)
    net.start = nn.Parameter(torch.randn(1, 1, 4, dtype=torch.float64))
    return net, (sequences(),)


def _zeros_of_its_size() -> tuple[nn.Module, tuple[Any, ...]]:
    def forward(net: Any, x: Tensor) -> Tensor:
        zeros = torch.zeros(net.rnn.num_layers, x.shape[0], net.rnn.hidden_size, dtype=x.dtype)
        return net.b(net.rnn(net.a(x), (zeros, zeros))[0])

    return _net(forward, nn.LSTM(5, 4, 2, batch_first=True), 4), (sequences(),)


def _encoder_decoder() -> tuple[nn.Module, tuple[Any, ...]]:
    def forward(net: Any, x: Tensor) -> Tensor:
        _, state = net.rnn(net.a(x))
        return net.b(net.decoder(net.a(x.flip(1)), state)[0])

    net = _net(forward, nn.LSTM(5, 4, 2, batch_first=True), 4)
    net.decoder = nn.LSTM(5, 4, 2, batch_first=True).double()
    return net, (sequences(),)


CASES: dict[str, Case] = {
    "lstm": _over_all(nn.LSTM, batch_first=True),
    "gru": _over_all(nn.GRU),
    "rnn": _over_all(nn.RNN, nonlinearity="relu", bias=False),
    "tanh": _over_all(nn.RNN),
    "two layers, two directions": _over_all(
        nn.LSTM, 8, num_layers=2, bidirectional=True, dropout=0.5
    ),
    "two layers, two directions, gru": _over_all(
        nn.GRU, 8, num_layers=2, bidirectional=True, batch_first=True
    ),
    "projection": _over_all(nn.LSTM, 3, 9, proj_size=3),
    "projections": _over_all(
        nn.LSTM, 6, 9, num_layers=2, bidirectional=True, batch_first=True, proj_size=3
    ),
    "packed": _packed(nn.LSTM),
    "packed gru": _packed(nn.GRU, num_layers=2),
    "last state": _last_state,
    "lstm cell": _steps(nn.LSTMCell),
    "gru cell": _steps(nn.GRUCell),
    "rnn cell": _steps(nn.RNNCell),
    "one step": _steps(nn.LSTMCell, 1),
    "learned state": _learned_state,
    "zeros": _zeros_of_its_size,
    "encoder and decoder": _encoder_decoder,
}


@pytest.mark.parametrize("how", ["split", "new"])
@pytest.mark.parametrize("case", CASES)
def test_every_width_grows_and_the_function_stays(case: str, how: Any) -> None:
    model, inputs = CASES[case]()
    model.eval()
    grown = {width.name for width in couple(model, inputs).widths if width.growable}
    projected = {"rnn#2"} if "projection" in case else set()
    assert grown == {"a", "rnn"} | projected
    wider = fxgrow.widen(model, dict.fromkeys(grown, 3), inputs, how=how)
    assert wider.unchecked == ""
    rnn, old = wider.module.get_submodule("rnn"), model.get_submodule("rnn")
    assert (rnn.input_size, rnn.hidden_size) == (8, old.hidden_size + 3)
    assert getattr(rnn, "proj_size", 0) == (6 if projected else 0)
    torch.testing.assert_close(wider.module(*inputs), model(*inputs), rtol=0, atol=1e-12)


@pytest.mark.parametrize("how", ["split", "new"])
@pytest.mark.parametrize("case", HAND_WRITTEN)
def test_cells_written_by_hand_grow(case: str, how: Any) -> None:
    make, inputs, names = HAND_WRITTEN[case]
    model, x = make().eval(), inputs()
    grown = {width.name for width in couple(model, (x,)).widths if width.growable}
    assert grown == set(names)
    wider = fxgrow.widen(model, dict.fromkeys(names, 2), (x,), how=how)
    assert wider.unchecked == ""
    torch.testing.assert_close(wider.module(x[:1]), model(x[:1]), rtol=0, atol=1e-12)


def test_a_state_of_zeros_beside_the_input_is_no_neuron_by_itself() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        return net.b(net.a(torch.cat([x, torch.zeros(len(x), 4, dtype=x.dtype)], 1)).tanh())

    model = Net(forward, a=nn.Linear(7, 5), b=nn.Linear(5, 2)).double()
    coupling = couple(model, (rows()[:, 0],))
    assert [width.name for width in coupling.widths if width.growable] == ["a"]
    assert not coupling.widths_along("a.weight", 1)


def test_a_first_state_that_tells_neurons_apart_does_not_grow() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        h = torch.arange(4.0, dtype=x.dtype).expand(len(x), 4)
        for step in range(x.shape[1]):
            h = torch.tanh(net.a(torch.cat((x[:, step], h), 1)))
        return net.b(h)

    model = Net(forward, a=nn.Linear(7, 4), b=nn.Linear(4, 2)).double()
    refusal = couple(model, (rows(),)).by_name["a"].refusal
    assert refusal is not None
    assert refusal.code == "fixed-size"


def test_a_neuron_has_a_row_per_gate_and_reads_itself() -> None:
    model, inputs = CASES["two layers, two directions"]()
    width = couple(model, inputs).by_name["rnn"]
    roles = {site.key: site.role for site in width.sites}
    assert (width.size, width.granule) == (4, 4)
    for suffix in ("l0", "l0_reverse", "l1", "l1_reverse"):
        assert roles[f"rnn.weight_hh_{suffix}", 0] is Role.WRITES
        assert roles[f"rnn.weight_hh_{suffix}", 1] is Role.READS
        assert roles[f"rnn.bias_ih_{suffix}", 0] is Role.WRITES
    assert roles["rnn.weight_ih_l1", 1] is Role.READS
    assert ("rnn.weight_ih_l0", 1) not in roles


def test_a_wider_layer_can_be_built_anew() -> None:
    model, inputs = CASES["projections"]()
    wider = fxgrow.widen(model, {"rnn": 2, "rnn#2": 1}, inputs).module.get_submodule("rnn")
    built = nn.LSTM(5, 11, 2, batch_first=True, bidirectional=True, proj_size=4).double()
    built.load_state_dict(wider.state_dict())
    x = torch.randn(2, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(built(x), wider(x), rtol=0, atol=1e-15)


@pytest.mark.parametrize("state", [torch.randn(1, 2, 4), torch.zeros(1, 2, 4)])
def test_a_state_that_the_user_gives_fixes_the_hidden_size(state: Tensor) -> None:
    model = _net(lambda net, x, h: net.b(net.rnn(net.a(x), h)[0]), nn.GRU(5, 4), 4)
    inputs = (sequences().transpose(0, 1).contiguous(), state.double())
    coupling = couple(model, inputs)
    assert coupling.by_name["a"].growable
    refusal = coupling.by_name["rnn"].refusal
    assert refusal is not None
    assert refusal.code == "fixed-size"


def test_a_number_in_place_of_the_hidden_size_is_found() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        return net.b(net.rnn(net.a(x), torch.zeros(1, x.shape[0], 4, dtype=x.dtype))[0])

    model = _net(forward, nn.GRU(5, 4, batch_first=True), 4)
    refusal = couple(model, (sequences(),)).by_name["rnn"].refusal
    assert refusal is not None
    assert refusal.code == "fixed-code"


def test_time_is_no_neuron() -> None:
    """Sequences whose steps are made of neurons."""

    def forward(net: Any, x: Tensor) -> Tensor:
        return net.b(net.rnn(net.a(x).transpose(1, 2))[0])

    model = _net(forward, nn.GRU(5, 4, batch_first=True), 4)
    refusal = couple(model, (sequences(5),)).by_name["a"].refusal
    assert refusal is not None
    assert refusal.code == "space"
    assert "time" in refusal.reason


def test_two_steps_of_a_long_sequence_are_observed() -> None:
    model, _ = CASES["gru"]()
    coupling = couple(model, (torch.zeros(5000, 1, 3, dtype=torch.float64),))
    assert coupling.by_name["rnn"].growable


@pytest.mark.parametrize("amount", [6, 7])
def test_a_projection_stays_smaller_than_the_hidden_size(amount: int) -> None:
    model, inputs = CASES["projection"]()
    before = {name: tensor.shape for name, tensor in model.state_dict().items()}
    with pytest.raises(fxgrow.FxgrowError, match="hidden size, too") as error:
        fxgrow.widen(model, {"rnn#2": amount}, inputs, inplace=True)
    assert error.value.code == "wide-projection"
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == before
