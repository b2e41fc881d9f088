"""Every kind of reader and writer: the emitted model is the over-grown graph, traced and exported."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fxgrow.capture import Captured, How, capture
from tests.networks import images, randomised
from tests.rewrite.rewriting import assert_faithful, exported_capture, over_grown


class Raw(nn.Module):
    """Named weights and a forward function over them."""

    def __init__(self, function: Callable[..., Tensor], **tensors: Tensor | nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, value in tensors.items():
            setattr(self, name, nn.Parameter(value) if isinstance(value, Tensor) else value)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def tensor(*shape: int) -> Tensor:
    return torch.zeros(shape)  # randomised() fills them


def convolution(function: Callable[..., Tensor], transposed: bool, rank: int) -> Raw:
    def forward(net: Raw, x: Tensor) -> Tensor:
        x = x.flatten(2) if rank == 1 else x if rank == 2 else x.unsqueeze(2)
        x = torch.relu(function(x, net.a, net.a_bias, stride=2))
        return (
            function(torch.tanh(function(x, net.b, None, 1, 1)), weight=net.c, bias=net.c_bias)
            .flatten(2)
            .mean(2)
        )

    def kernel(out: int, into: int) -> Tensor:
        return tensor(*(into, out) if transposed else (out, into), *[2] * rank)

    return Raw(
        forward, a=kernel(4, 3), a_bias=tensor(4), b=kernel(5, 4), c=kernel(2, 5), c_bias=tensor(2)
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: Raw(
        lambda n, x: F.linear(torch.relu(F.linear(x.flatten(1), n.a, n.a_bias)), weight=n.b, bias=n.b_bias),
        a=tensor(4, 108), a_bias=tensor(4), b=tensor(2, 4), b_bias=tensor(2),
    ),
    "matmul": lambda: Raw(
        lambda n, x: torch.matmul(torch.tanh(x.flatten(1) @ n.a + n.a_bias).matmul(n.b), n.c.t()),
        a=tensor(108, 4), a_bias=tensor(4), b=tensor(4, 3), c=tensor(2, 3),
    ),
    "transposed on the way": lambda: Raw(
        lambda n, x: F.linear(torch.tanh(x.flatten(1) @ n.a.T), n.b.transpose(1, 0)),
        a=tensor(4, 108), b=tensor(4, 2),
    ),
    "addmm": lambda: Raw(
        lambda n, x: torch.addmm(n.b_bias, torch.tanh(torch.addmm(n.a_bias, x.flatten(1), n.a)), n.b),
        a=tensor(108, 4), a_bias=tensor(4), b=tensor(4, 2), b_bias=tensor(2),
    ),
    "mm": lambda: Raw(
        lambda n, x: torch.mm(torch.tanh(x.flatten(1).mm(n.a)), n.b),
        a=tensor(108, 4), b=tensor(4, 2),
    ),
    **{
        f"conv{rank}d": lambda rank=rank: convolution((F.conv1d, F.conv2d, F.conv3d)[rank - 1], False, rank)
        for rank in (2,)
    },
    **{
        f"conv_transpose{rank}d": lambda rank=rank: convolution(
            (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1], True, rank
        )
        for rank in (1, 2, 3)
    },
    "transposed modules": lambda: nn.Sequential(
        nn.ConvTranspose2d(3, 4, 3, 2, 1, output_padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 3, 2),
        nn.Tanh(), nn.Conv2d(3, 3, 3), nn.ReLU(), nn.ConvTranspose2d(3, 2, 1, bias=False), nn.Flatten(),
    ),
    "same padding": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding="same"), nn.ReLU(), nn.Conv2d(4, 2, 3, padding="same", dilation=2), nn.Flatten()
    ),
    "grouped": lambda: Raw(
        lambda n, x: n.head(F.conv2d(torch.relu(n.a(x)), n.b, n.b_bias, groups=2).tanh().mean((2, 3))),
        a=nn.Conv2d(3, 6, 1), b=tensor(4, 3, 3, 3), b_bias=tensor(4), head=nn.Linear(4, 2),
    ),
}  # fmt: skip


def embedding() -> nn.Module:
    return Raw(
        lambda n, x: n.head(torch.tanh(n.table(x) + F.embedding(x % 3, n.raw))),
        table=nn.Embedding(7, 4), raw=tensor(3, 4), head=nn.Linear(4, 2),
    )  # fmt: skip


def traced_capture(module: nn.Module, inputs: tuple[Tensor, ...]) -> Captured:
    captured = capture(module, inputs)
    assert captured.how is How.TRACED
    return captured


WAYS = {"traced": traced_capture, "exported": exported_capture}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NETWORKS)
def test_kind_is_faithful(name: str, way: str) -> None:
    torch.manual_seed(0)
    coupling, grown = assert_faithful(WAYS[way](randomised(NETWORKS[name]()), (images(),)))
    growable = [n for n, width in enumerate(coupling.widths) if width.growable]
    assert growable and not grown.refusals
    assert list(grown.candidates.split) == list(grown.candidates.new) == growable


@pytest.mark.parametrize("way", WAYS)
def test_embedding_is_faithful(way: str) -> None:
    torch.manual_seed(0)
    words = torch.tensor([[0, 6, 2], [3, 3, 5]])
    _, grown = assert_faithful(WAYS[way](randomised(embedding()), (words,)))
    assert not grown.refusals and len(grown.candidates.new) == 1


class Small(nn.Module):
    """Batch norm, PReLU, in-place activations, a scale, concatenation, parts in a tuple, a dict as the output."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.act = (
            nn.Conv2d(3, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.PReLU(4),
        )
        self.b, self.scale = nn.Conv2d(4, 4, 3, stride=2), nn.Parameter(torch.ones(4, 1, 1))
        self.c, self.head = nn.Conv2d(8, 6, 1), nn.Linear(3, 2)
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("var", torch.ones(4))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.norm(self.a(x))
        x.relu_()
        y = F.batch_norm(self.b(self.act(x)), self.mean, self.var, self.scale.flatten())
        y = F.relu(self.c(torch.cat([y * self.scale, y.sigmoid()], 1)), inplace=True)
        left, right = y.chunk(2, 1)
        return {
            "logits": self.head((left * right).mean((2, 3))),
            "more": [self.head(left.amax((2, 3)))],
        }


class Mlp(nn.Module):
    """A transformer's gated MLP on a normalized stream."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(3, 4), nn.LayerNorm(4)
        self.gate, self.up, self.down = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(2).transpose(1, 2))
        y = self.norm(x)
        return self.head((x + self.down(F.silu(self.gate(y)) * self.up(y))).mean(1))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [Small, Mlp])
def test_small_networks(kind: type[nn.Module], way: str) -> None:
    torch.manual_seed(0)
    module = randomised(kind())
    _, grown = assert_faithful(WAYS[way](module, (images(),)))
    assert not grown.refusals
    assert len(grown.candidates.new) == (3 if kind is Small else 1)


def test_tied_weights_share_their_candidates() -> None:
    """One weight at two places, and a weight of two modules: one layer of the over-grown graph each."""
    torch.manual_seed(0)
    net = Raw(
        lambda n, x: n.head(n.mid(F.linear(x.flatten(1), n.a).tanh()).tanh() * n.tied(n.b(x.flatten(1)).tanh())),
        a=tensor(4, 108), b=nn.Linear(108, 4, bias=False), mid=nn.Linear(4, 4, bias=False),
        tied=nn.Linear(4, 4, bias=False), head=nn.Linear(4, 2),
    )  # fmt: skip
    net.b.weight = net.a
    net.tied.weight = net.mid.weight
    _, grown = assert_faithful(capture(randomised(net), (images(),)))
    calls = [
        str(n.target)
        for n in grown.graph_module.graph.nodes
        if n.op == "call_module" and "grown" in str(n.target)
    ]
    assert not grown.refusals and sorted(calls) == [
        f"fxgrow_grown.{name}" for name in ("a", "a", "head", "mid", "mid")
    ]


def test_weight_used_in_two_ways_is_refused() -> None:
    net = Raw(
        lambda n, x: n.head(torch.tanh(F.linear(x.flatten(1), n.a)) + torch.tanh(F.linear(x.flatten(1), n.a, n.b))),
        a=tensor(4, 108), b=tensor(4), head=nn.Linear(4, 2),
    )  # fmt: skip
    (refusal,) = over_grown(randomised(net), images(), new=1).refusals.values()
    assert refusal.code == "no-rewrite" and "a or its bias is shared" in refusal.reason


@pytest.mark.parametrize("also", [lambda n, x: n.b * x, lambda n, x: x * (n.a * n.a)[:, 0]])
def test_weight_that_also_carries_is_refused(also: Callable[..., Tensor]) -> None:
    net = Raw(
        lambda n, x: n.head(also(n, torch.tanh(F.linear(x.flatten(1), n.a, n.b)))),
        a=tensor(4, 108), b=tensor(4), head=nn.Linear(4, 2),
    )  # fmt: skip
    (refusal,) = over_grown(randomised(net), images(), new=1).refusals.values()
    assert refusal.code == "no-rewrite" and "also used by" in refusal.reason


def test_module_called_twice() -> None:
    torch.manual_seed(0)

    def forward(n: Raw, x: Tensor) -> Tensor:
        left, right = (n.b(n.norm(n.a(one.flatten(1))).tanh()) for one in (x, x.sin()))
        return n.head(left.tanh() * right)

    net = Raw(
        forward,
        a=nn.Linear(108, 4),
        norm=nn.BatchNorm1d(4),
        b=nn.Linear(4, 3),
        head=nn.Linear(3, 2),
    )
    _, grown = assert_faithful(capture(randomised(net), (images(),)))
    assert not grown.refusals and len(grown.candidates.new) == 2


def test_carrier_as_module_and_as_parameter() -> None:
    torch.manual_seed(0)
    net = Raw(
        lambda n, x: n.head(n.act(n.a(x)).mean((2, 3)) * F.prelu(n.b(x), n.act.weight).mean((2, 3))),
        a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(3, 4, 1), act=nn.PReLU(4), head=nn.Linear(4, 2),
    )  # fmt: skip
    _, grown = assert_faithful(capture(randomised(net), (images(),)))
    assert not grown.refusals and grown.candidates.new


def test_refusal_of_new_neurons_alone() -> None:
    """The size that a reshape reads off a weight is not that of the new neurons; split candidates take part."""
    net = Raw(
        lambda n, x: n.head(torch.tanh(F.linear(x.flatten(1), n.a).view(-1, n.a.shape[0]))),
        a=tensor(4, 108), head=nn.Linear(4, 2),
    )  # fmt: skip
    _, grown = assert_faithful(capture(randomised(net), (images(),)), new=1)
    ((number, refusal),) = grown.refusals.items()
    assert refusal.code == "no-lane" and refusal.nodes[0].startswith("view")
    assert list(grown.candidates.split) == [number] and not grown.candidates.new


def test_unknown_arguments_are_refused() -> None:
    net = Raw(
        lambda n, x: n.head(torch.tanh(torch.addmm(n.b, x.flatten(1), n.a, alpha=2))),
        a=tensor(108, 4), b=tensor(4), head=nn.Linear(4, 2),
    )  # fmt: skip
    (refusal,) = over_grown(randomised(net), images(), new=1).refusals.values()
    assert refusal.code == "no-rewrite" and "addmm" in refusal.reason


def test_llama() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        num_hidden_layers=1,
        hidden_size=8,
        intermediate_size=6,
        num_attention_heads=2,
        vocab_size=11,
        use_cache=False,
    )
    model = transformers.LlamaForCausalLM(config)
    coupling, grown = assert_faithful(
        capture(randomised(model), (torch.tensor([[0, 6, 2], [3, 10, 5]]),))
    )
    names = {coupling.widths[number].name for number in grown.candidates.new}
    assert "model.layers.0.mlp.gate_proj" in names and not grown.refusals
