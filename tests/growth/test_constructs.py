"""Constructs of which counting, describing or checking once stopped a growth that works."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow

LABELS = torch.tensor([0, 1, 2, 0])
MASK = torch.tensor([[False] * 4 + [True]] * 4)
EDGES = torch.tensor([[0, 1, 2, 3, 0, 2], [1, 2, 3, 0, 0, 2]])


class Two(nn.Module):
    """Two layers, and a function of both, of the input and of other arguments."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 3)
        self.function = function

    def forward(self, x: Tensor, *rest: Any) -> Tensor:
        return self.function(self, x, *rest)


def h(net: Two, x: Tensor) -> Tensor:
    return torch.relu(net.a(x))


def causal(net: Two, x: Tensor) -> Tensor:
    out = net.b(h(net, x))
    t = out.shape[1]
    scores = out[:, :, None] * out[:, None, :]
    scores = scores.masked_fill(torch.ones(t, t).tril() == 0, float("-inf"))
    return (scores.softmax(-1) @ out[:, :, None]).squeeze(-1)


def attention_bias(net: Two, x: Tensor) -> Tensor:
    out = net.b(h(net, x))
    bias = torch.full((out.shape[1], out.shape[1]), float("-inf")).triu(1)
    return ((out[:, :, None] + bias).softmax(-1) @ out[:, :, None]).squeeze(-1)


def options(net: Two, x: Tensor, how: str, given: dict[str, Any], scales: Any, no: None) -> Tensor:
    hidden = getattr(torch, how)(net.a(x)) * given["s"] * scales[0]
    return net.b(hidden if given["mask"] is None else hidden * given["mask"])


FUNCTIONS: dict[str, tuple[Callable[..., Tensor], tuple[Any, ...]]] = {
    "causal mask": (causal, ()),
    "attention bias": (attention_bias, ()),
    "zeros": (lambda n, x: n.b(h(n, x)) + torch.zeros(x.shape[0], 3), ()),
    "eye": (lambda n, x: n.b(h(n, x)) @ torch.eye(3), ()),
    "range": (lambda n, x: n.b(h(n, x)) * torch.arange(x.shape[0])[:, None], ()),
    "none": (lambda n, x, mask: n.b(h(n, x) if mask is None else h(n, x) * mask), (None,)),
    "number": (lambda n, x, mask, scale: n.b(h(n, x)) * scale, (None, 3.0)),
    "nested tensors": (lambda n, x, d: n.b(h(n, x)) + d["a"][0][:, :3], ({"a": [torch.ones(4, 5)]},)),
    "all kinds": (options, ("relu", {"s": 2.0, "mask": None}, [0.5, True], None)),
    "nonzero": (lambda n, x: n.b(h(n, x)[(x[:, 0] > -10).nonzero().squeeze(1)]), ()),
    "boolean mask": (lambda n, x: n.b(h(n, x)[x.sum(1) > -100]), ()),
}  # fmt: skip


class Padded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(8, 3)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.encoder(x, src_key_padding_mask=mask).mean(1))


class GraphAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project, self.out = nn.Linear(5, 8, bias=False), nn.Linear(8, 3)
        self.attend = nn.Parameter(0.3 * torch.randn(16))

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        nodes = self.project(x)
        source, target = edges
        scores = torch.cat([nodes[source], nodes[target]], 1) @ self.attend
        weights = torch.zeros(len(x), len(x))
        weights[target, source] = F.leaky_relu(scores, 0.2).exp()
        return self.out(F.elu(weights / weights.sum(1, keepdim=True) @ nodes))


class PointNet(nn.Module):
    """A T-Net predicts a matrix that the points are turned by."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.norm = nn.Conv1d(3, 6, 1), nn.BatchNorm1d(6)
        self.first, self.second = nn.Linear(6, 7), nn.Linear(7, 9)
        self.points, self.head = nn.Conv1d(3, 8, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        found = F.relu(self.norm(self.features(x))).max(2)[0]
        identity = torch.eye(3).flatten().unsqueeze(0).repeat(x.size(0), 1)
        turn = (self.second(F.relu(self.first(found))) + identity).view(-1, 3, 3)
        x = torch.bmm(x.transpose(2, 1), turn).transpose(2, 1)
        return self.head(F.relu(self.points(x)).max(2)[0])


def t5() -> tuple[nn.Module, Any]:
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(
        vocab_size=20,
        d_model=8,
        d_kv=4,
        d_ff=12,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
    )
    inputs = {"input_ids": torch.arange(6)[None], "decoder_input_ids": torch.arange(4)[None]}
    return transformers.T5ForConditionalGeneration(config), inputs


def whisper() -> tuple[nn.Module, Any]:
    transformers = pytest.importorskip("transformers")
    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in {"layers": 1, "attention_heads": 2, "ffn_dim": 12}.items()
    }
    config = transformers.WhisperConfig(
        vocab_size=20, num_mel_bins=4, d_model=8, max_source_positions=8, max_target_positions=8,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, **sides,
    )  # fmt: skip
    inputs = {"input_features": torch.randn(1, 4, 16), "decoder_input_ids": torch.arange(4)[None]}
    return transformers.WhisperForConditionalGeneration(config), inputs


MODELS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    **{
        name: lambda function=function, rest=rest: (Two(function), (torch.randn(4, 5), *rest))
        for name, (function, rest) in FUNCTIONS.items()
    },
    "padding mask": lambda: (Padded(), (torch.randn(4, 5, 8), MASK)),
    "graph attention": lambda: (GraphAttention(), (torch.randn(4, 5), EDGES)),
    "t-net": lambda: (PointNet(), torch.randn(4, 3, 9)),
    "t5": t5,
    "whisper": whisper,
}


def loss(output: Any, labels: Tensor) -> Tensor:
    logits = getattr(output, "logits", output)
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1])[:4], labels)


def build(name: str) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    model, inputs = MODELS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval(), inputs


@pytest.mark.filterwarnings("ignore:.* has a config, which cannot describe:UserWarning")
@pytest.mark.parametrize("name", MODELS)
def test_it_grows(name: str) -> None:
    model, inputs = build(name)
    method = fxgrow.Firefly(new=2, steps=1)
    report = fxgrow.grow(model, [(inputs, LABELS)], loss, method=method).report
    assert report.widths and report.costs_unknown == ""
    assert report.multiply_adds_after > report.multiply_adds_before > 0


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("name", MODELS)
def test_it_widens(name: str) -> None:
    model, inputs = build(name)
    widths = [width.name for width in fxgrow.couple(model, inputs).widths if width.growable]
    wider = fxgrow.widen(model, dict.fromkeys(widths, 2), inputs, how="new").module
    with torch.no_grad():
        old, new = (
            net(**inputs)
            if isinstance(inputs, dict)
            else net(*inputs)
            if isinstance(inputs, tuple)
            else net(inputs)
            for net in (model, wider)
        )
    torch.testing.assert_close(
        getattr(new, "logits", new), getattr(old, "logits", old), rtol=1e-4, atol=1e-5
    )


@pytest.mark.filterwarnings("ignore:the candidates ran out:UserWarning")  # few, to be fast
@pytest.mark.parametrize("unit", ["multiply_adds", "activation_memory"])
@pytest.mark.parametrize("name", ["nonzero", "causal mask", "all kinds"])
def test_a_budget_in_that_unit_counts(name: str, unit: str) -> None:
    model, inputs = build(name)
    budget = fxgrow.Budget(**{unit: 0.5})
    method = fxgrow.Firefly(new=2, steps=1)
    report = fxgrow.grow(model, [(inputs, LABELS)], loss, method=method, budget=budget).report
    spending = report.plan.spending[unit]
    assert 0 < spending.spent <= spending.limit
