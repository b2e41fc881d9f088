"""fxgrow's growth step against that of gromo (``python -m tools.bench_growth --peers``).

gromo (https://github.com/growingnet/gromo, by the authors of TINY) grows networks that are built of its own layers. Two
that it can express are built twice with the same weights, once of torch's layers for fxgrow and once of gromo's: an MLP on
scikit-learn's digits with three hidden layers, and three convolutions with a pooled linear head (the head is a plain layer
in both, so the third width does not grow). Both libraries see the same batches (as many to collect statistics on, as many
to choose the step length on), the same thread, add the same number of neurons to each width, and take turns. gromo grows
one width after the other, since it cannot apply growths of neighbors that were found at once; it runs with
the settings that its documentation gives for TINY and for GradMax; TINY's step length is halved until the loss does not
rise, as fxgrow's is, and GradMax's new columns are normalized as in that paper.

What fxgrow does beside the method itself (capture, coupling, the checks, a specification) is in its time; ``search`` is the
part that is the method. Each round begins from weights of its own seed. Times are processor seconds as multiples of one plain epoch of the network before growth; losses are
those of the test images: before, right after, and after one more epoch of training.
"""

import copy
import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import mean, median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxgrow
from fxgrow.data import load_data
from fxgrow.growth import Budget
from fxgrow.methods import TINY, GradMax

Batch = tuple[Tensor, Tensor]

BATCH, EPOCHS = 64, 4
SEARCHED, SCORED = 8, 4
HIDDEN, CHANNELS = 32, 8
SHARE = 4
"""Each width gains a quarter of its neurons."""
HALVINGS = 12

FXGROW: Mapping[str, type[Any]] = {"TINY": TINY, "GradMax": GradMax}
# As the documentation of gromo's compute_optimal_updates gives them "to reproduce papers".
GROMO: Mapping[str, Mapping[str, bool]] = {
    "TINY": {
        "compute_delta": False,
        "use_covariance": True,
        "alpha_zero": False,
        "use_projection": True,
        "ignore_singular_values": False,
    },
    "GradMax": {
        "compute_delta": False,
        "use_covariance": False,
        "alpha_zero": True,
        "use_projection": False,
        "ignore_singular_values": True,
    },
}


class Data(NamedTuple):
    """Batches to train on, to search on and to score on, and the test images."""

    train: list[Batch]
    searched: list[Batch]
    scored: list[Batch]
    test: Batch


@dataclass(frozen=True)
class Outcome:
    """One growth step.

    Args:
        cpu: seconds.
        search: those of the search alone; all of them for gromo.
        before, after, later: losses on the test images, before, right after, one epoch later.
        parameters: of the grown network.
    """

    cpu: float
    search: float
    before: float
    after: float
    later: float
    parameters: int


def digits(flat: bool) -> Data:
    """Digits of 8x8 pixels; as vectors, or as images."""
    split = load_data("digits", size=8, channels=1)

    def arranged(images: Tensor) -> Tensor:
        return images.flatten(1) if flat else images

    images, labels = arranged(split.train.images), split.train.labels
    batches = list(zip(images.split(BATCH), labels.split(BATCH), strict=True))
    # The last batch is shorter, and the growth batches are among those that were trained on: digits are few.
    searched, scored = batches[:SEARCHED], batches[SEARCHED : SEARCHED + SCORED]
    return Data(batches, searched, scored, (arranged(split.test.images), split.test.labels))


def plain_mlp() -> nn.Module:
    """Three hidden layers."""
    sizes = (64, HIDDEN, HIDDEN, HIDDEN)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.SELU()]
    return nn.Sequential(*layers, nn.Linear(HIDDEN, 10))


def plain_convolutions() -> nn.Module:
    """Three convolutions, the mean over positions, and a linear head."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise((1, CHANNELS, CHANNELS, CHANNELS)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.SELU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 10))


class GromoChain(nn.Module):
    """The same network of gromo's layers; the head of convolutions is a plain one."""

    def __init__(self, plain: nn.Module) -> None:
        super().__init__()
        written = [one for one in plain.children() if isinstance(one, (nn.Linear, nn.Conv2d))]
        is_convolution = isinstance(written[0], nn.Conv2d)
        chain = written[:-1] if is_convolution else written
        self.layers = nn.ModuleList()
        previous = None
        for index, layer in enumerate(chain):
            follows = nn.Identity() if index == len(written) - 1 else nn.SELU()
            previous = _gromo_layer(layer, previous, follows)
            self.layers.append(previous)
        tail: list[nn.Module] = []
        if is_convolution:
            tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), copy.deepcopy(written[-1])]
        self.tail = nn.Sequential(*tail)
        self.growing: list[Any] = list(self.layers)[1:]
        self.added = len(written[0].weight) // SHARE

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.tail(x)
        return out

    def extended_forward(self, x: Tensor) -> Tensor:
        """With the new neurons that are not applied yet."""
        extension = None
        for layer in self.layers:
            x, extension = layer.extended_forward(x, extension)
        out: Tensor = self.tail(x)
        return out


def _gromo_layer(layer: nn.Module, previous: Any, follows: nn.Module) -> Any:
    """One of gromo's layers with the weights of a plain one."""
    from gromo.modules.conv2d_growing_module import FullConv2dGrowingModule
    from gromo.modules.linear_growing_module import LinearGrowingModule

    common = {"post_layer_function": follows, "previous_module": previous, "device": "cpu"}
    found: Any
    if isinstance(layer, nn.Conv2d):
        sizes = (layer.in_channels, layer.out_channels)
        found = FullConv2dGrowingModule(*sizes, kernel_size=3, padding=1, **common)
    else:
        found = LinearGrowingModule(layer.in_features, layer.out_features, **common)
    found.layer.load_state_dict(layer.state_dict())
    return found


def gromo_step(model: Any, data: Data, method: str) -> None:
    """One growth step of gromo, in place: width after width, since two neighbors cannot grow at once."""
    for layer in model.growing:
        layer.init_computation()
        for x, y in data.searched:
            model.zero_grad()
            # Statistics are of sums, as gromo asks for.
            F.cross_entropy(model(x), y, reduction="sum").backward()
            layer.update_computation()
        layer.compute_optimal_updates(maximum_added_neurons=model.added, **GROMO[method])
        layer.reset_computation()
        if method == "GradMax":
            layer.normalize_optimal_updates(normalization_type="gradmax_normalization")
            # It starts at 0, where outgoing weights would be 0 as well, and never learn.
            layer.scaling_factor = 1.0
        else:
            _choose_step_length(model, layer, data.scored)
        layer.apply_change()
        layer.delete_update()


@torch.no_grad()
def _choose_step_length(model: Any, layer: Any, scored: Sequence[Batch]) -> None:
    """Halve the step from 1 until the loss on the scored batches does not rise."""
    before = mean_loss(model, scored)
    factor = 1.0
    for _ in range(HALVINGS):
        # Both ends are scaled by it, so that what they add scales by the factor.
        layer.scaling_factor = factor**0.5
        if mean_loss(model.extended_forward, scored) <= before:
            return
        factor /= 2


def fxgrow_step(model: nn.Module, data: Data, method: str) -> fxgrow.Growth:
    """One growth step of fxgrow, in place: all widths at once."""
    first = model.get_submodule("0")
    # Modules 0, 2 and 4 write the widths; what the last convolution writes for the head stays.
    names = ("0", "2") if isinstance(first, nn.Conv2d) else ("0", "2", "4")
    added = len(first.get_parameter("weight")) // SHARE
    return fxgrow.grow(
        model,
        # Roles are given in this order; the last ones are held out.
        [*data.searched, *data.scored, *data.scored],
        F.cross_entropy,
        example_inputs=data.train[0][0][:2],
        method=FXGROW[method](new=added),
        budget=Budget(neurons=added * len(names), per_width=added),
        only=names,
        inplace=True,
        accept_no_gain=True,
    )


def mean_loss(model: Callable[[Tensor], Tensor], batches: Sequence[Batch]) -> float:
    """The mean over batches."""
    with torch.no_grad():
        return mean(float(F.cross_entropy(model(x), y)) for x, y in batches)


def train(model: nn.Module, batches: Sequence[Batch], epochs: int = 1) -> None:
    """Plain SGD with momentum, begun anew."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for x, y in [*batches] * epochs:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def measured(model: nn.Module, data: Data, step: Callable[[], float]) -> Outcome:
    """Grow a model in place, and train it for one more epoch.

    Args:
        model: grows.
        data: to train and test on.
        step: grows it, and says which share of the time was the search.
    """
    before = mean_loss(model, [data.test])
    start = time.process_time()
    share = step()
    cpu = time.process_time() - start
    after = mean_loss(model, [data.test])
    train(model, data.train)
    later = mean_loss(model, [data.test])
    parameters = sum(one.numel() for one in model.parameters())
    return Outcome(cpu, share * cpu, before, after, later, parameters)


def one_round(build: Callable[[], nn.Module], data: Data, seed: int) -> dict[str, Any]:
    """Every library and method once from the same trained network, and a plain epoch."""
    torch.manual_seed(seed)
    plain = build()
    train(plain, data.train, EPOCHS)
    found: dict[str, Any] = {}
    start = time.process_time()
    train(copy.deepcopy(plain), data.train)
    found["epoch"] = time.process_time() - start
    for method in FXGROW:
        mine, theirs = copy.deepcopy(plain), GromoChain(plain)

        def ours(model: nn.Module = mine, method: str = method) -> float:
            report = fxgrow_step(model, data, method).report
            return report.timings["search"] / report.seconds

        def peers(model: nn.Module = theirs, method: str = method) -> float:
            gromo_step(model, data, method)
            return 1.0

        found[f"fxgrow {method}"] = asdict(measured(mine, data, ours))
        found[f"gromo {method}"] = asdict(measured(theirs, data, peers))
    return found


def summary(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds; times in plain epochs, with the processor seconds beside them."""
    told: dict[str, Any] = {"epoch_cpu": median(one["epoch"] for one in rounds)}
    for name in rounds[0]:
        if name == "epoch":
            continue
        row = {key: median(one[name][key] for one in rounds) for key in rounds[0][name]}
        for key in ("cpu", "search"):
            row[f"{key}_epochs"] = median(one[name][key] / one["epoch"] for one in rounds)
        told[name] = row
    return told


NETWORKS: Mapping[str, tuple[Callable[[], nn.Module], bool]] = {
    "mlp": (plain_mlp, True),
    "convolutions": (plain_convolutions, False),
}


def compare(rounds: int) -> dict[str, Any]:
    """All networks, some rounds each.

    Args:
        rounds: how often every library and method grows each network.

    Returns:
        Per network, library and method the medians.
    """
    import gromo  # noqa: F401 - said at once if it is not there

    torch.set_num_threads(1)
    record: dict[str, Any] = {
        "torch": torch.__version__,
        "gromo": _version("gromo"),
        "data": "scikit-learn digits, 8x8",
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg()},
        "rounds": rounds,
    }
    for name, (build, flat) in NETWORKS.items():
        data = digits(flat)
        one_round(build, data, rounds)  # the first one also waits for modules to be imported
        record[name] = summary([one_round(build, data, seed) for seed in range(rounds)])
        for row, told in record[name].items():
            if row == "epoch_cpu":
                continue
            print(
                f"{name:12} {row:15} {told['cpu_epochs']:6.2f} epochs (search {told['search_epochs']:.2f}), "
                f"loss {told['before']:.4f} -> {told['after']:.4f}, an epoch later {told['later']:.4f}"
            )
    return record


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)
