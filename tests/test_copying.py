"""A copy of a model works on its own: its functions are its own, and what cannot be copied is left out."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow.copying import copy_module
from fxgrow.errors import ModelError


class Wired(nn.Module):
    """Functions in attributes, in hooks and in lists refer to the module that holds them."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layer, self.other = nn.Linear(3, 3), nn.Linear(3, 3)
        parts = [self.layer, self.other]

        def nested(x: Tensor) -> Tensor:
            inner: Callable[[Tensor], Any] = lambda y: self.other(self.layer(y))  # noqa: E731
            return inner(x)  # type: ignore[no-any-return]

        functions: dict[str, Any] = {
            "closure": lambda x: self.other(self.layer(x)),
            "nested": nested,
            "default": lambda x, me=self: me.other(me.layer(x)),
            "container": lambda x: parts[1](parts[0](x)),
            "method": self.both,
        }
        self.function = functions[kind]

    def both(self, x: Tensor) -> Tensor:
        return self.other(self.layer(x))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.function(x)
        return result


@pytest.mark.parametrize("kind", ["closure", "nested", "default", "container", "method"])
def test_functions_work_on_the_copy(kind: str) -> None:
    model, x = Wired(kind), torch.randn(2, 3)
    expected = model(x)
    copied: Any = copy_module(model)
    with torch.no_grad():
        model.layer.weight.zero_()
    torch.testing.assert_close(copied(x), expected)
    copied(x).sum().backward()
    assert copied.layer.weight.grad is not None and model.layer.weight.grad is None


def test_results_of_the_last_run_are_copied_without_their_history() -> None:
    model: Any = nn.Linear(3, 3)
    model.last = {"out": model(torch.randn(2, 3))}
    copied: Any = copy_module(model)
    assert torch.equal(copied.last["out"], model.last["out"])
    assert copied.last["out"].grad_fn is None and model.last["out"].grad_fn is not None


def test_a_function_without_the_model_in_it_is_shared() -> None:
    seen: list[Tensor] = []
    hook = lambda *args: seen.append(args[2])  # noqa: E731
    model = nn.Linear(3, 3)
    model.register_forward_hook(hook)
    copied = copy_module(model)
    assert list(copied._forward_hooks.values()) == [hook]
    copied(torch.randn(2, 3))
    assert len(seen) == 1


def _with_attributes() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    vars(model).update(lock=threading.Lock(), functions=F)
    vars(model[0])["stream"] = (number for number in range(3))
    return model


@pytest.mark.parametrize("inplace", [False, True])
def test_what_cannot_be_copied_is_shared(inplace: bool) -> None:
    model, x = _with_attributes(), torch.randn(4, 5, dtype=torch.float64)
    expected, stream = model(x), vars(model[0])["stream"]
    wider = fxgrow.widen(model, {"0": 2}, x, inplace=inplace).module
    assert vars(wider)["lock"] is vars(model)["lock"]
    assert vars(wider)["functions"] is F
    assert vars(wider.get_submodule("0"))["stream"] is stream
    torch.testing.assert_close(wider(x), expected, rtol=1e-12, atol=1e-12)


def test_what_cannot_be_shared_or_copied_is_refused() -> None:
    model = _with_attributes()
    vars(model)["parts"] = [model[0], threading.Lock()]
    with pytest.raises(
        ModelError, match="'parts' of Sequential holds parts of the model"
    ) as caught:
        fxgrow.couple(model, torch.randn(4, 5, dtype=torch.float64))
    assert caught.value.code == "uncopyable-model"


def test_a_class_that_cannot_be_copied_is_refused() -> None:
    class Single(nn.Linear):
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("there is only one")

    with pytest.raises(ModelError, match="there is only one"):
        fxgrow.couple(nn.Sequential(Single(5, 6), nn.Linear(6, 3)), torch.randn(4, 5))
