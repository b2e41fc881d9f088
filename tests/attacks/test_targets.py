"""Calls, classes and attributes beyond the lists, and constructors made to do harm."""

from pathlib import Path

import pytest

from tests.attacks.attacking import PAYLOAD, Attack, X, assert_fails, becomes, call, config_of, ids
from tools.fuzzing.bases import Base

FUNCTIONS = (
    "os.system",
    "builtins.eval",
    "builtins.exec",
    "builtins.__import__",
    "builtins.open",
    "builtins.setattr",
    "torch.load",
    "torch.hub.load",
    "torch.ops.load_library",
    "torch.ops.aten.from_file.default",
    "torch.ops.aten.set_.source_Storage",
    "torch.ops.aten.add.__class__",
    "torch.utils.data.os.system",
    "operator.methodcaller",
    "operator.attrgetter",
    "importlib.import_module",
    "torch.fx.wrap",
    "torch.compile",
    PAYLOAD,
)
METHODS = (
    "apply_",
    "map_",
    "numpy",
    "register_hook",
    "set_",
    "data_ptr",
    "__class__",
    "__reduce_ex__",
    "share_memory_",
)
ATTRIBUTES = ("__class__", "__dict__", "grad_fn", "data", "_backward_hooks", "storage")
CLASSES = (
    "torch.nn.Sequential",
    "torch.nn.DataParallel",
    "torch.nn.LazyLinear",
    "torch.nn.functional.relu",
    "os.PathLike",
    "torch.nn.modules.module.torch",
    "torch.jit.ScriptModule",
    "builtins.object",
    "subprocess.Popen",
)

ATTACKS = (
    *(
        Attack(f"calls {name}", call(name, PAYLOAD), "unknown-target", "nodes[flatten].target")
        for name in FUNCTIONS
    ),
    *(
        Attack(
            f"method {name}", call(name, X, op="call_method"), "unknown-target", "nodes[flatten]"
        )
        for name in METHODS
    ),
    *(
        Attack(
            f"reads {name}", call("builtins.getattr", X, name), "unknown-target", "nodes[flatten]"
        )
        for name in ATTRIBUTES
    ),
    *(
        Attack(f"builds {name}", becomes("act", name), "unknown-class", "modules[act]")
        for name in CLASSES
    ),
    Attack(
        "reads an attribute that cannot be hashed",
        call("builtins.getattr", X, {"mapping": {}}),
        "unknown-target",
        "nodes[flatten]",
    ),
    Attack(
        "method of a literal",
        call("expand", PAYLOAD, op="call_method"),
        "bad-call",
        "nodes[flatten]",
    ),
    Attack(
        "a power that fx writes wrongly", call("operator.pow", -2, X), "bad-call", "nodes[flatten]"
    ),
    Attack(
        "a device that makes the constructor allocate",
        config_of("a", device="cpu", in_features=20_000, out_features=20_000),
        "bad-config",
        "modules[a]",
    ),
    Attack("a device object", config_of("a", device={"device": "cpu"}), "bad-config", "modules[a]"),
    Attack(
        "ready-made weights",
        becomes("act", "torch.nn.Embedding", _weight=[1]),
        "bad-value",
        "modules.2.config._weight",
    ),
    Attack(
        "an activation looked up by name",
        becomes(
            "act", "torch.nn.TransformerEncoderLayer", d_model=4, nhead=2, activation="__import__"
        ),
        "bad-config",
        "modules[act]",
    ),
    Attack(
        "arguments that are ignored",
        becomes("act", "torch.nn.Identity", hidden=1),
        "bad-config",
        "modules[act]",
    ),
    Attack(
        "arguments of a container",
        becomes("inner", "torch.nn.Module", hidden=1),
        "not-canonical",
        "modules[inner]",
    ),
    Attack(
        "no heads",
        becomes("act", "torch.nn.MultiheadAttention", embed_dim=4, num_heads=0),
        "bad-config",
        "modules[act]",
    ),
    Attack(
        "a node as an argument",
        config_of("conv", bias={"tuple": [X]}),
        "bad-config",
        "modules[conv]",
    ),
)


@pytest.mark.parametrize("attack", ATTACKS, ids=ids(ATTACKS))
def test_it_is_refused(attack: Attack, base: Base, tmp_path: Path) -> None:
    assert_fails(attack, base, tmp_path / "hostile")
