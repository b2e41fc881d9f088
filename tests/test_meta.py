"""What is cached on the meta device must be what torch would compute again."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fxgrow.meta import ShapeCache

aten = torch.ops.aten
X = torch.empty(2, 3, 4, 5, device="meta")
LAST = X.to(memory_format=torch.channels_last)
W = torch.empty(6, 3, 3, 3, device="meta")
CASES = [
    (aten.convolution.default, (X, W, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)),
    (aten.convolution.default, (LAST, W, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1)),
    (aten.add.Tensor, (X.to(torch.int64), 1)),
    (aten.add.Tensor, (X.to(torch.int64), 1.0)),
    (aten.add.Tensor, (X.to(torch.int64), True)),
    (aten.cat.default, ([X, X], 1)),
    (aten.native_batch_norm.default, (X, None, None, X[0, :, 0, 0], X[0, :, 0, 0], False, 0.1, 1e-5)),
]  # fmt: skip


def form(out: object) -> list[object]:
    tensors = out if isinstance(out, (tuple, list)) else [out]
    return [
        (x.shape, x.stride(), x.dtype, x.device) if isinstance(x, Tensor) else x for x in tensors
    ]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_the_second_time_is_like_the_first(number: int) -> None:
    """One cache for all cases, so that one must not be taken for another."""
    cache = ShapeCache()
    for _ in range(2):
        for func, args in CASES:
            cache.run(func, args, {})
    func, args = CASES[number]
    assert form(cache.run(func, args, {})) == form(func(*args))


def test_results_are_new_tensors() -> None:
    cache = ShapeCache()
    first, second = (cache.run(aten.relu.default, (X,), {}) for _ in range(2))
    assert first is not second
    assert first.untyped_storage()._cdata != second.untyped_storage()._cdata


def test_a_kernel_is_run_once() -> None:
    runs = []

    def kernel(x: Tensor) -> Tensor:
        runs.append(x)
        return torch.empty_like(x)

    cache = ShapeCache()
    for x in (X, X, X[:1]):
        cache.run(aten.relu.default, (x,), {}, kernel)
    assert len(runs) == 2


def test_views_and_writes_run_every_time() -> None:
    """The view is a view of the tensor that was given now; what is written into comes back itself."""
    cache = ShapeCache()
    for x in (X.clone(), X.clone()):
        view = cache.run(aten.view.default, (x, [2, 60]), {})
        assert view.untyped_storage()._cdata == x.untyped_storage()._cdata
        assert cache.run(aten.relu_.default, (x,), {}) is x
    assert not cache.results


def test_tensors_with_values_and_what_has_no_hash_run_every_time() -> None:
    cache = ShapeCache()
    assert cache.run(aten.relu.default, (torch.tensor([-1.0, 2.0]),), {}).tolist() == [0, 2]
    assert not cache.results


class Opaque:
    """As objects of torch's C++ are: with a hash, and no equality."""

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        raise NotImplementedError


def test_what_cannot_be_compared_runs_every_time() -> None:
    cache = ShapeCache()
    for _ in range(2):  # a key of the second would be compared with that of the first
        out = cache.run(aten.relu.default, (X, Opaque()), {}, lambda x, _: x.relu())
        assert out.shape == X.shape
    assert not cache.results


def test_what_is_made_of_numbers_keeps_its_values() -> None:
    cache = ShapeCache()
    for _ in range(2):
        assert cache.run(aten.arange.default, (3,), {}).tolist() == [0, 1, 2]
    assert cache.run(aten.arange.default, (3,), {"device": torch.device("meta")}).is_meta
    assert cache.run(aten.arange.default, (3,), {}).tolist() == [0, 1, 2]


class CachingMode(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cache = ShapeCache()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return self.cache.run(func, args, kwargs or {})


def test_autograd_goes_through_the_cache() -> None:
    weight = torch.empty(3, 3, device="meta", requires_grad=True)
    with CachingMode():
        y = torch.empty(2, 3, device="meta") @ weight @ weight
        y.sum().backward()
    assert weight.grad is not None
    assert weight.grad.shape == (3, 3)
