"""Products with the mixed second derivative, against the whole of it."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fxgrow.errors import GrowthError
from fxgrow.growth import Objective
from fxgrow.methods.bilinear import BilinearForm, singular_vectors
from tests.networks import images, network
from tests.rewrite.rewriting import over_grown

LABELS = torch.tensor([0, 1, 0, 1])


def form_of(name: str, new: int) -> BilinearForm:
    grown = over_grown(network(name), images(4), split=False, new=new)
    form = BilinearForm.of(grown, Objective([(images(4), LABELS)], F.cross_entropy))
    form.start()
    return form


def drawn(count: int, size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", ["chain", "residual", "gate", "dense", "grouped"])
def test_both_products_are_of_one_matrix(name: str) -> None:
    """w^T (M c) = (M^T w)^T c, neuron by neuron; and M is the same for all of a width."""
    form = form_of(name, new=2)
    c = drawn(form.outgoing.count, form.outgoing.size, 0)
    w = drawn(form.incoming.count, form.incoming.size, 1)
    image = form.times(c)
    left, right = (w * image).sum(1), (form.transposed_times(w) * c).sum(1)
    assert left.abs().max() > 1e-6
    torch.testing.assert_close(left, right)
    if name != "gate":  # there depthwise kernels are drawn for each new neuron
        alike = c.clone()
        for places in form.grown.candidates.new.values():
            alike[places] = c[places.start]
        for places in form.grown.candidates.new.values():
            first, second = form.times(alike)[places]
            torch.testing.assert_close(first, second)


def test_the_product_is_a_difference_of_losses() -> None:
    """L(w, c) - L(w, 0) - L(0, c) + L(0, 0) = w^T M c, in a network without kinks."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 2)
    ).double()
    grown = over_grown(model, images(4), split=False, new=1)
    objective = Objective([(images(4), LABELS)], F.cross_entropy)
    form = BilinearForm.of(grown, objective)
    form.start()
    w, c = drawn(1, form.incoming.size, 0), drawn(1, form.outgoing.size, 1)
    expected = float((w * form.times(c)).sum())

    def loss(h: float, k: float) -> float:
        form.incoming.write(h * w)
        form.outgoing.write(k * c)
        return objective.mean(grown.graph_module)

    h = 1e-3
    mixed = (loss(h, h) - loss(h, -h) - loss(-h, h) + loss(-h, -h)) / (4 * h * h)
    assert mixed == pytest.approx(expected, rel=1e-4)


def test_singular_vectors_of_every_width_are_those_of_its_matrix() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 8)
    ).double()
    x, y = torch.randn(30, 5).double(), torch.randn(30, 8).double()
    grown = over_grown(model, x, split=False, new=4)
    form = BilinearForm.of(grown, Objective([(x, y)], F.mse_loss))
    form.start()
    found = singular_vectors(form, torch.Generator().manual_seed(0), iterations=12)
    assert len(form.grown.candidates.new) == 2
    for places in form.grown.candidates.new.values():
        rows = []
        for coordinate in range(form.outgoing.size):
            unit = torch.zeros(form.outgoing.count, form.outgoing.size, dtype=torch.float64)
            unit[places.start, coordinate] = 1.0
            rows.append(form.times(unit)[places.start])
        matrix = torch.stack(rows, 1)  # [coordinates of w, coordinates of c]
        exact = torch.linalg.svdvals(matrix)
        torch.testing.assert_close(found.values[places], exact[:4], rtol=1e-3, atol=0)
        torch.testing.assert_close(found.values[places][:2], exact[:2], rtol=1e-6, atol=0)
        for best in (places.start, places.start + 1):
            image = matrix @ found.outgoing[best]
            torch.testing.assert_close(image, found.values[best] * found.incoming[best])


def test_more_candidates_than_the_rank_have_values_of_zero() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x = torch.randn(20, 3, dtype=torch.float64)
    grown = over_grown(model, x, split=False, new=5)
    form = BilinearForm.of(grown, Objective([(x, x[:, :2])], F.mse_loss))
    form.start()
    values = singular_vectors(form, torch.Generator().manual_seed(0), iterations=1).values
    assert (values[:2] > 1e-3).all() and not values[2:].any()


class Attends(nn.Module):
    """A hidden layer, and fused attention after it, which has no second derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(3, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(torch.tanh(self.up(x)))
        return F.scaled_dot_product_attention(x, x, x)


def test_fused_attention_is_no_obstacle() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 1, 5, 3)
    grown = over_grown(Attends(), x, split=False, new=1)
    form = BilinearForm.of(grown, Objective([(x, None)], lambda z, _: z.square().mean()))
    form.start()
    w, c = drawn(1, form.incoming.size, 0), drawn(1, form.outgoing.size, 1)
    left, right = (w * form.times(c)).sum(), (form.transposed_times(w) * c).sum()
    assert left.abs() > 1e-4
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)


def test_a_loss_without_a_second_derivative_is_refused() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 5))
    x = torch.randn(10, 2, 3)

    def sequences(z: Tensor, labels: Tensor) -> Tensor:
        lengths = torch.tensor([10, 10]), torch.tensor([2, 2])
        return F.ctc_loss(z.log_softmax(2), labels, *lengths)

    grown = over_grown(model, x, split=False, new=1)
    batch = (x, torch.tensor([[1, 2], [2, 3]]))
    form = BilinearForm.of(grown, Objective([batch], sequences))
    form.start()
    with pytest.raises(GrowthError, match="_ctc_loss_backward is not implemented") as caught:
        form.times(drawn(1, form.outgoing.size, 0))
    assert caught.value.code == "no-second-derivative"
