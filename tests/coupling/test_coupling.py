"""What ``couple`` promises as a whole: names, owners, roles, the graph, errors, and that it changes nothing."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxgrow.capture import capture
from fxgrow.coupling import Role, couple
from fxgrow.coupling.context import Context
from fxgrow.coupling.observer import Observer, ShapeReads
from fxgrow.errors import ModelError
from fxgrow.growth.widen import widen
from tests.coupling.models import IMAGE, SEQUENCE, VECTOR, Net, linears

PAIR = {"a": nn.Linear(6, 4), "b": nn.Linear(4, 2)}


def test_sites_have_roles() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    width = couple(model, (IMAGE,)).by_name["0"]
    roles = {(site.parameter, site.axis): site.role for site in width.sites}
    assert roles == {
        ("0.weight", 0): Role.WRITES,
        ("0.bias", 0): Role.WRITES,
        ("1.weight", 0): Role.CARRIES,
        ("1.bias", 0): Role.CARRIES,
        ("1.running_mean", 0): Role.CARRIES,
        ("1.running_var", 0): Role.CARRIES,
        ("2.weight", 1): Role.READS,
    }


def test_owners_say_which_neuron_each_index_is() -> None:
    model = Net(
        lambda n, x: n.c(torch.cat([n.a(x), n.b(x)], 1)),
        a=nn.Linear(6, 2),
        b=nn.Linear(6, 1),
        c=nn.Linear(3, 2),
    )
    coupling = couple(model, (VECTOR,))
    owners = coupling.owners["c.weight", 1]
    assert [coupling.widths[number].name for number in owners.width] == ["a", "a", "b"]
    assert owners.neuron.tolist() == [0, 1, 0]


def test_a_second_width_of_a_module_has_a_number() -> None:
    model = linears(lambda h: h[:, :3], read=3)
    assert [width.name for width in couple(model, (VECTOR,)).widths] == ["a", "a#2", "b"]


def test_widths_of_one_module_are_in_the_order_of_its_rows() -> None:
    model = Net(
        lambda n, x: n.c((h := n.a(x))[:, 2:]) + n.b(h[:, :2]),
        a=nn.Linear(6, 5),
        b=nn.Linear(2, 2),
        c=nn.Linear(3, 2),
    )
    assert [(width.name, width.size) for width in couple(model, (VECTOR,)).widths][:2] == [
        ("a", 2),
        ("a#2", 3),
    ]


def test_the_networkx_graph_has_an_edge_per_site() -> None:
    coupling = couple(linears(torch.relu), (VECTOR,))
    graph = coupling.to_networkx()
    assert graph.number_of_edges() == sum(len(width.sites) for width in coupling.widths)
    assert graph.nodes["a"] == {"kind": "width", "size": 4, "growable": True}
    assert graph.edges["a", "b.weight", 0] == {"axis": 1, "role": "reads"}


def test_the_model_is_left_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, 2, 1))
    model[1].eval()
    before = copy.deepcopy(model.state_dict())
    couple(model, (IMAGE,))
    assert [module.training for module in model.modules()] == [True, True, False, True, True]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(
        not module._forward_hooks and not module._forward_pre_hooks for module in model.modules()
    )


@pytest.mark.parametrize("enabled", [True, False])
def test_the_fast_path_of_attention_is_as_before(enabled: bool) -> None:
    torch.backends.mha.set_fastpath_enabled(enabled)
    try:
        couple(linears(torch.relu), (VECTOR,))
        assert torch.backends.mha.get_fastpath_enabled() is enabled
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def test_coupling_twice_gives_the_same() -> None:
    model = linears(lambda h: h + torch.ones(4))
    first, second = (couple(model, (VECTOR,)).widths for _ in range(2))
    assert first == second


def test_a_captured_graph_says_what_each_node_does() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    coupling = couple(capture(model, (VECTOR,)))
    assert coupling.writes["_0"] == {0}
    assert coupling.carries["_1"] == {0}
    assert coupling.reads["_2"] == {0}
    assert coupling.writes["_2"] == {1}


def test_a_model_that_does_not_run_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"Net does not run on its example inputs: .*4") as caught:
        couple(linears(torch.relu, read=5), (VECTOR,))
    assert caught.value.code == "does-not-run"


def test_a_number_read_out_of_floats_is_computed() -> None:
    """Which way the data goes is found by computing it, and the grown model goes the same way."""

    def forward(net: Any, x: Tensor) -> Tensor:
        hidden = net.a(x).relu()
        out: Tensor = net.b(hidden if float(x.sum()) < 1e6 else hidden.logcumsumexp(-1))
        return out

    assert couple(Net(forward, **PAIR), (VECTOR,)).by_name["a"].growable


def test_a_sum_that_nobody_reads_refuses_nothing() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        hidden = net.a(x).relu()
        hidden.mean(1)
        out: Tensor = net.b(hidden)
        return out

    assert couple(Net(forward, **PAIR), (VECTOR,)).by_name["a"].growable


def test_tokens_find_their_experts() -> None:
    """The shapes depend on the data: every expert gets the tokens whose gate is largest for it."""
    torch.manual_seed(0)  # with these numbers both get some

    def forward(net: Any, x: Tensor) -> Tensor:
        out = torch.zeros(len(x), 2)
        for expert, own in enumerate(net.gate(x).argmax(-1) == n for n in range(2)):
            rows = own.nonzero().squeeze(-1)
            part = [net.a, net.c][expert](x[rows]).relu()
            out = out.index_add(0, rows, [net.b, net.d][expert](part))
        return out

    parts = {
        "gate": nn.Linear(6, 2),
        "a": nn.Linear(6, 4),
        "b": nn.Linear(4, 2),
        "c": nn.Linear(6, 5),
        "d": nn.Linear(5, 2),
    }
    coupling = couple(Net(forward, **parts), (torch.randn(9, 6),))
    assert {name for name in ("a", "c") if coupling.by_name[name].growable} == {"a", "c"}


def test_a_number_that_nobody_knows_is_an_error() -> None:
    model = linears(lambda h: h * h.sum().item()).to("meta")
    with pytest.raises(ModelError, match="number") as caught:
        couple(model, (VECTOR,))
    assert caught.value.code == "does-not-run"


def test_whole_numbers_are_real() -> None:
    """Control flow on an integer mask takes the branch that the data says."""

    def forward(net: Any, x: Tensor, mask: Tensor) -> Tensor:
        hidden = net.a(x)
        out: Tensor = net.b(hidden if bool(mask.sum() > 2) else hidden.logcumsumexp(-1))
        return out

    def code(ones: int) -> str | None:
        mask = torch.zeros(5, dtype=torch.long)
        mask[:ones] = 1
        refusal = couple(Net(forward, **PAIR), (SEQUENCE, mask)).by_name["a"].refusal
        return refusal.code if refusal else None

    assert code(3) is None
    assert code(1) == "normalised"


def test_an_auxiliary_head_of_train_mode_takes_part() -> None:
    model = Net(
        lambda n, x: (n.b(n.a(x)), n.aux(n.a(x))) if n.training else n.b(n.a(x)),
        aux=nn.Linear(4, 3),
        **PAIR,
    )
    sites = {site.parameter for site in couple(model, (VECTOR,)).by_name["a"].sites}
    assert "aux.weight" in sites


def test_an_auxiliary_head_that_normalizes_one_value_takes_part() -> None:
    def forward(n: Net, x: Tensor) -> Any:
        h = n.a(x)
        return (n.b(h), n.aux(n.norm(n.c(h)))) if n.training else n.b(h)

    parts = {"c": nn.Linear(4, 6), "norm": nn.BatchNorm1d(6), "aux": nn.Linear(6, 2)}
    model = Net(forward, **parts, **PAIR)
    coupling = couple(model, (VECTOR[:1],))  # torch trains no batch norm on a batch of one
    assert coupling.by_name["a"].growable
    assert "c.weight" in {site.parameter for site in coupling.by_name["a"].sites}
    assert coupling.by_name["c"].growable


@pytest.mark.parametrize("how", ["split", "new"])
def test_keys_that_positions_share_grow_by_heads(how: Any) -> None:
    def heads(part: nn.Module, x: Tensor) -> Tensor:
        return part(x).view(*x.shape[:2], -1, 4).transpose(1, 2)

    def forward(n: Net, x: Tensor) -> Tensor:
        # Over the size of a head the keys of positions are read, and those of values written.
        scores = heads(n.q, x) @ heads(n.k, x).transpose(2, 3)
        scores = scores + heads(n.q, x) @ heads(n.k, n.table.weight[None]).transpose(2, 3)
        out: Tensor = n.o((scores.softmax(-1) @ heads(n.v, x)).transpose(1, 2).flatten(2))
        return out

    parts = {name: nn.Linear(6, 8) for name in "qkv"}
    model = Net(forward, **parts, o=nn.Linear(8, 2), table=nn.Embedding(5, 6)).double()
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    width = couple(model, x).by_name["q"]
    assert (width.size, width.growable) == (2, True)
    roles = {site.parameter: site.role for site in width.sites}
    assert (roles["k.weight"], roles["o.weight"]) == ("writes", "reads")
    wider = widen(model, {"q": 1}, x, how=how).module
    torch.testing.assert_close(wider(x), model(x), rtol=1e-12, atol=1e-12)


def test_a_branch_of_eval_mode_must_grow_too() -> None:
    model = Net(
        lambda n, x: n.b(n.a(x)) if n.training else n.b(n.a(x).view(2, 4) * n.scale), **PAIR
    )
    model.scale = nn.Parameter(torch.ones(()))  # not met in train mode
    refusal = couple(model, (VECTOR,)).by_name["a"].refusal
    assert refusal is not None
    assert refusal.code == "fixed-code"


def test_a_branch_of_eval_mode_takes_part() -> None:
    model = Net(
        lambda n, x: n.b(n.a(x)) if n.training else n.b(n.a(x) * n.scale.weight[0]),
        scale=nn.Linear(4, 1),
        **PAIR,
    )
    sites = {site.parameter for site in couple(model, (VECTOR,)).by_name["a"].sites}
    assert "scale.weight" in sites


class DynamicConvolution(nn.Module):
    """One kernel per example, by a grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.h = nn.Conv2d(3, 4, 3), nn.Linear(5, 3)
        self.kernels = nn.Linear(4, 5 * 4 * 9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.a(x))
        n, c, h, w = x.shape
        kernels = self.kernels(x.mean((2, 3))).view(n * 5, c, 3, 3)
        y = torch.conv2d(x.reshape(1, n * c, h, w), kernels, groups=n).view(n, 5, h - 2, w - 2)
        result: torch.Tensor = self.h(y.mean((2, 3)))
        return result


def test_kernels_that_are_computed_refuse_what_they_touch() -> None:
    widths = couple(DynamicConvolution(), torch.randn(4, 3, 8, 8)).by_name
    assert widths["a"].refusal is not None and widths["kernels"].refusal is not None
    assert not any(width.growable for width in widths.values())


@pytest.mark.parametrize("mode", [Observer, ShapeReads])
def test_no_pass_looks_into_functions(mode: Any) -> None:
    branches = (lambda h: h + 1, lambda h: h - 1)
    x = torch.zeros(2, device="meta")
    with pytest.raises(ModelError, match="cond takes functions"), mode(Context()):
        torch.ops.higher_order.cond(x.sum() > 0, *branches, (x,))


def test_operators_that_take_functions_are_named() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        branches = (lambda h: net.b(h), lambda h: h[:, :2])
        out: Tensor = torch.ops.higher_order.cond(x.sum() > 0, *branches, (net.a(x),))
        return out

    with pytest.raises(ModelError, match="cond takes functions") as caught:
        couple(Net(forward, **PAIR), (VECTOR,))
    assert caught.value.code == "does-not-run"


def test_a_graph_that_asserts_its_device_is_followed_to_its_end() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        h: Tensor = net.a(x)
        # Neurons are observed without numbers, on a device of its own.
        h = h.relu() if x.device.type == "cpu" else h
        result: Tensor = net.b(h)
        return result

    model = Net(forward, a=nn.Linear(6, 4), b=nn.Linear(4, 2))
    captured = capture(model, (torch.randn(3, 6),))
    targets = [node.target for node in captured.graph_module.graph.nodes]
    assert torch._assert in targets
    coupling = couple(captured)
    assert coupling.reads["b"] == {coupling.number_of["a"]}


def test_the_words_of_a_tied_embedding_are_a_vocabulary() -> None:
    class Tied(nn.Module):
        def __init__(self, tied: bool) -> None:
            super().__init__()
            self.words, self.middle, self.last = (
                nn.Embedding(7, 4),
                nn.Linear(4, 4),
                nn.Linear(4, 7),
            )
            if tied:
                self.last.weight = self.words.weight

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(self.middle(self.words(x)).relu())
            return out

    tied, free = (couple(Tied(tied), (torch.tensor([[1, 2]]),)) for tied in (True, False))
    refusal = tied.by_name["words#2"].refusal
    assert refusal is not None
    assert refusal.code == "vocabulary"
    assert "grow_vocabulary" in refusal.reason
    refused = {width.name: width.refusal.code for width in free.widths if width.refusal}
    assert refused == {"last": "output"}
