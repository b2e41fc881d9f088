"""Loading gives the saved model bit for bit; whatever is wrong in a directory raises SpecError and nothing else."""

import contextlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, fx, nn

from fxgrow.documents.tensor_files import ALIGNMENT
from fxgrow.errors import ArgumentError, SpecError
from fxgrow.spec import describe, load, read_spec, save
from fxgrow.spec.fingerprint import fingerprint
from fxgrow.spec.load import parse_spec


def refused(directory: Path) -> SpecError:
    with pytest.raises(SpecError) as caught:
        load(directory)
    return caught.value


def test_outputs_and_state_are_bit_identical(
    saved: Path, net: fx.GraphModule, inputs: tuple[Tensor]
) -> None:
    again = load(saved)
    assert torch.equal(again(*inputs), net(*inputs))
    ours, theirs = net.state_dict(), again.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_order_ties_gradients_and_persistence_come_back(saved: Path, net: fx.GraphModule) -> None:
    again = load(saved)
    assert [n for n, _ in again.named_parameters()] == [n for n, _ in net.named_parameters()]
    assert again.get_parameter("a.weight") is again.get_parameter("b.weight")
    assert not again.get_parameter("inner.scale").requires_grad
    assert again.get_parameter("conv.weight").requires_grad
    assert "offset" not in again.state_dict()
    assert torch.equal(again.get_buffer("offset"), net.get_buffer("offset"))


def test_it_comes_in_eval_mode_and_trains(saved: Path, inputs: tuple[Tensor]) -> None:
    again = load(saved)
    assert not any(module.training for module in again.modules())
    before = again.get_buffer("bn.running_mean").clone()
    again.train()(*inputs).sum().backward()
    assert not torch.equal(again.get_buffer("bn.running_mean"), before)
    grad = again.get_parameter("a.weight").grad
    assert grad is not None
    assert grad.abs().sum() > 0


def test_a_recurrent_module_uses_its_loaded_weights(tmp_path: Path) -> None:
    """Recurrent modules compute with a second list of their weights."""
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_module("rnn", (x,)))
    root = nn.Module()
    root.rnn = nn.LSTM(3, 4)
    net, example = fx.GraphModule(root, graph), (torch.randn(5, 2, 3),)
    save(net, tmp_path / "run", describe(net, example))
    again = load(tmp_path / "run")
    assert torch.equal(again(*example)[0], net(*example)[0])
    again(*example)[0].sum().backward()
    assert again.get_parameter("rnn.weight_hh_l0").grad is not None


def test_trust_is_needed_again_when_loading(tmp_path: Path) -> None:
    graph = fx.Graph()
    graph.output(graph.call_function(struct.calcsize, ("i",)))
    net = fx.GraphModule(nn.Module(), graph)
    trust = frozenset({"_struct.calcsize"})
    save(net, tmp_path / "run", describe(net, (), trust=trust), trust=trust)
    assert refused(tmp_path / "run").code == "unknown-target"
    assert load(tmp_path / "run", trust=trust)() == 4


def test_missing_things(tmp_path: Path, saved: Path) -> None:
    assert refused(tmp_path / "nowhere").code == "missing-file"
    (saved / "model.safetensors").unlink()
    error = refused(saved)
    assert (error.code, error.path) == ("missing-file", str(saved / "model.safetensors"))


def test_a_file_is_no_directory_and_a_directory_no_file(saved: Path) -> None:
    assert refused(saved / "config.json").code == "not-a-file"
    (saved / "model.safetensors").unlink()
    (saved / "model.safetensors").mkdir()
    assert refused(saved).code == "not-a-file"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_links_are_not_followed(saved: Path, tmp_path: Path, name: str) -> None:
    (saved / name).rename(tmp_path / name)
    (saved / name).symlink_to(tmp_path / name)
    assert refused(saved).code == "symlink"


def test_a_linked_directory_is_not_followed(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(saved)
    assert refused(tmp_path / "link").code == "symlink"


def test_a_null_byte_in_the_path_is_reported() -> None:
    with pytest.raises(ArgumentError, match="no null byte") as caught:
        load(Path("a\0b"))
    assert caught.value.code == "bad-argument"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", "bad-json"),
        (b"{", "bad-json"),
        (b"\xff\xfe", "bad-json"),
        (b'{"a": 1, "a": 2}', "bad-json"),
        (b'{"a": NaN}', "bad-json"),
        (b"1" * 5000, "bad-json"),  # more digits than Python converts
        (b"[" * 100 + b"]" * 100, "too-deep"),
        (b"[" * 100_000 + b"]" * 100_000, "too-deep"),
        (b"[]", "bad-value"),
        (b"{}", "missing-key"),
        (b'{"schema_version": 4}', "schema-version"),
    ],
)
def test_text_that_is_no_spec(saved: Path, text: bytes, code: str) -> None:
    (saved / "config.json").write_bytes(text)
    assert refused(saved).code == code


def test_a_huge_config_is_not_read(saved: Path) -> None:
    with (saved / "config.json").open("r+b") as file:
        file.truncate(2**30)  # sparse: takes no space
    assert refused(saved).code == "too-large"


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        (("surprise",), 1, "unknown-key"),
        (("nodes", 0, "surprise"), 1, "unknown-key"),
        (("nodes", 0, "op"), "run", "bad-value"),
        (("nodes", 0, "name"), 3, "bad-value"),
        (("nodes", 1, "args"), [{"code": "1"}], "bad-value"),
        (("parameters", 0, "shape"), [-1], "bad-value"),
        (("parameters", 0, "shape"), ["4"], "bad-value"),
        (("parameters", 0, "dtype"), "object", "bad-value"),
        (("parameters", 0, "requires_grad"), "yes", "bad-value"),
        (("fingerprint",), "abc", "bad-value"),
        (("schema_version",), True, "schema-version"),
        (("cost", "parameters"), 1e400, "bad-json"),
    ],
)
def test_fields_are_closed_and_strict(
    damage: Any, path: tuple[Any, ...], value: object, code: str
) -> None:
    def change(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    assert refused(damage(change)).code == code


def weights(directory: Path) -> Path:
    return directory / "model.safetensors"


def test_a_flipped_bit_is_found(saved: Path) -> None:
    data = bytearray(weights(saved).read_bytes())
    data[-1] ^= 1
    weights(saved).write_bytes(data)
    assert refused(saved).code == "weights-mismatch"


def test_weights_of_another_architecture_are_refused(saved: Path) -> None:
    save_file(load_file(weights(saved)), weights(saved), metadata={"fingerprint": "0" * 64})
    assert refused(saved).code == "weights-mismatch"


def test_a_spec_that_was_never_saved_with_weights_is_refused(damage: Any) -> None:
    assert refused(damage(lambda data: data.pop("weights"))).code == "weights-mismatch"


def test_truncated_weights_are_refused_at_every_length(saved: Path) -> None:
    data = weights(saved).read_bytes()
    for size in (0, 4, 8, 20, len(data) // 2, len(data) - 1):
        weights(saved).write_bytes(data[:size])
        assert refused(saved).code in ("bad-weights", "too-large")
    weights(saved).write_bytes(b"\xff" * len(data))
    assert refused(saved).code == "bad-weights"


def rewritten(directory: Path, change: Any) -> Path:
    """The directory with other tensors, but the right fingerprint in their metadata."""
    tensors = load_file(weights(directory))
    change(tensors)
    save_file(
        tensors, weights(directory), metadata={"fingerprint": read_spec(directory).fingerprint}
    )
    return directory


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda t: t.update(more=torch.zeros(9)), "missing-tensor"),
        (lambda t: t.update({"conv.weight": torch.zeros(4, 3, 9)}), "tensor-mismatch"),
        (
            lambda t: t.update({"conv.weight": torch.zeros(4, 3, 3, 3, dtype=torch.float64)}),
            "tensor-mismatch",
        ),
    ],
)
def test_tensors_have_to_be_those_of_the_spec(saved: Path, change: Any, code: str) -> None:
    assert refused(rewritten(saved, change)).code == code


def test_claimed_sizes_are_compared_before_anything_is_allocated(damage: Any) -> None:
    """Four million million bytes would not fit into memory: the refusal has to come first."""

    def huge(data: Any) -> None:
        data["parameters"][0]["shape"] = [2**40, 1, 1, 1]
        data["fingerprint"] = refingerprint(data)

    error = refused(damage(huge))
    assert (error.code, Path(error.path).name) == ("too-large", "model.safetensors")


def refingerprint(data: Any) -> str:
    return fingerprint(parse_spec(json.dumps(data)))


JUNK: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=4)
    | st.just([])
    | st.just({})
    | st.just(["x"])
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_damage_raises_anything_but_spec_error(
    saved: Path, inputs: tuple[Tensor], data: st.DataObject
) -> None:
    """Replace or delete any place of the JSON, with a fresh fingerprint where there is one, and load."""
    config = saved / "config.json"
    original = config.read_text()
    broken = json.loads(original)
    place = data.draw(st.sampled_from(places(broken)[1:]))
    holder = broken
    for key in place[:-1]:
        holder = holder[key]
    if data.draw(st.booleans()):
        holder[place[-1]] = data.draw(JUNK)
    else:
        del holder[place[-1]]
    with contextlib.suppress(SpecError, LookupError):  # too broken to have one
        broken["fingerprint"] = refingerprint(broken)
    config.write_text(json.dumps(broken))
    with contextlib.suppress(SpecError):
        load(saved)
    config.write_text(original)


def _is_aligned(tensor: Tensor) -> bool:
    return tensor.data_ptr() % ALIGNMENT == 0


def test_a_loaded_model_lies_well(
    net: fx.GraphModule, inputs: tuple[Tensor], tmp_path: Path
) -> None:
    save(net, tmp_path / "run", describe(net, inputs))
    assert not all(map(_is_aligned, load_file(tmp_path / "run" / "model.safetensors").values()))
    state = load(tmp_path / "run").state_dict()
    assert all(map(_is_aligned, state.values()))
