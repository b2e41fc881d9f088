"""A model to which ``fully_shard`` was applied, as a plain one: parameters are gathered on use.

Growth works on plain modules and tensors. So the units are taken off, each parameter and each part
of an optimizer's state becomes a ``GatheringTensor`` of the same shard, and when all is done
``fully_shard`` is applied again and the parts become distributed tensors. No process ever holds
more than its shards and what one operator needs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Partial, Replicate
from torch.optim import Optimizer

from fxgrow.ranks import Ranks
from fxgrow.sharding.admission import require_growable_shards
from fxgrow.sharding.gathering import GatheringTensor, Parts, ShardLayout, new_record
from fxgrow.sharding.units import Unit, apply_again, mark_units, move_marks, remove_marks, take_off

Grown = tuple[nn.Module, tuple[Optimizer, ...]]
"""What became of a model and its optimizers."""


@dataclass(eq=False)
class ShardedModel:
    """A model that is plain now, and what is needed to shard it again.

    Args:
        model: the model.
        ranks: the processes.
        whole: names of those that were no shards.
        layouts: how parts lie, by mesh and placements.
        record: of what was written into its tensors.
        unit: how the model itself was sharded; None if only parts of it were.
        grown: what is to be sharded; None: nothing, the model is put back as it was.
        inplace: whether that has parts of the model, so that the model is not put back.
    """

    model: nn.Module
    ranks: Ranks
    whole: frozenset[str]
    layouts: dict[Any, ShardLayout] = field(default_factory=dict)
    record: Any = field(default_factory=new_record)
    unit: Unit | None = None
    grown: Grown | None = None
    inplace: bool = True

    def becomes(
        self, module: nn.Module, optimizers: Sequence[Optimizer] = (), *, inplace: bool = True
    ) -> None:
        """Say what is to be sharded on leaving.

        Args:
            module: the model itself, a graph of its parts, or a copy that has grown.
            optimizers: its optimizers.
            inplace: whether it is no copy.
        """
        self.grown, self.inplace = (module, tuple(optimizers)), inplace

    def gathering(self, tensor: Any) -> Any:
        """The same shard as a tensor that looks whole; what is no ``DTensor`` itself."""
        if not isinstance(tensor, DTensor):
            return tensor
        if any(isinstance(one, Partial) for one in tensor.placements):
            tensor = tensor.redistribute(placements=[Replicate()] * tensor.device_mesh.ndim)
        key = tensor.device_mesh, tensor.placements
        layout = self.layouts.setdefault(key, ShardLayout(*key, self.ranks, self.record))
        return GatheringTensor(Parts(tensor._local_tensor.detach(), tensor.shape, layout))


@contextmanager
def taken_off(model: nn.Module, optimizers: Sequence[Optimizer]) -> Iterator[ShardedModel]:
    """Make a model plain inside; on leaving it is as it was, or what it has become is sharded.

    Args:
        model: a model to which ``fully_shard`` was applied.
        optimizers: its optimizers.

    Raises:
        ModelError: ``wrapped-model``.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # After a pass the weights of the root are gathered still.
            module.reshard()
    require_growable_shards(model)
    named = dict(model.named_parameters())
    whole = frozenset(name for name, one in named.items() if not isinstance(one, DTensor))
    sharded = ShardedModel(model, Ranks.of_process(), whole)
    sharded.unit = mark_units(model)
    # Shards are not written into, so what is put back is what there was.
    put_back = [take_off(model), *map(_put_back, optimizers)]
    try:
        _replace(model, optimizers, _gathering_parameters(model, sharded), sharded.gathering)
        yield sharded
        if sharded.grown is None or not sharded.inplace:
            _call_all(put_back)
        if sharded.grown is not None:
            _shard_again(sharded, *sharded.grown)
    except BaseException:
        _call_all(put_back)
        raise


def _call_all(functions: Iterable[Callable[[], None]]) -> None:
    for function in functions:
        function()


def _gathering_parameters(model: nn.Module, sharded: ShardedModel) -> dict[Tensor, nn.Parameter]:
    found: dict[Tensor, nn.Parameter] = {}
    for parameter in model.parameters():
        if isinstance(parameter, DTensor):
            gathering = sharded.gathering(parameter)
            found[parameter] = nn.Parameter(gathering, parameter.requires_grad)
    return found


def _replace(
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    parameters: Mapping[Tensor, nn.Parameter],
    state_tensor: Callable[[Any], Any],
) -> None:
    """Put other objects in the place of parameters, tied ones too, and of optimizers' tensors.

    Args:
        model: its parameters are replaced.
        optimizers: so are those in their groups, and what they keep of them.
        parameters: what stands for which.
        state_tensor: from a ``DTensor`` of an optimizer to what stands for it.
    """
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None and parameter in parameters:
                setattr(module, name, parameters[parameter])
    for optimizer in optimizers:
        _replace_in(optimizer, parameters, state_tensor)


def _replace_in(
    optimizer: Optimizer,
    parameters: Mapping[Tensor, nn.Parameter],
    state_tensor: Callable[[Any], Any],
) -> None:
    for group in optimizer.param_groups:
        group["params"][:] = [parameters.get(one, one) for one in group["params"]]
    # In the old order, and in the same table, which others may hold.
    states = list(optimizer.state.items())
    optimizer.state.clear()
    for parameter, values in states:
        if parameter in parameters:
            values = {name: state_tensor(value) for name, value in values.items()}
        optimizer.state[parameters.get(parameter, parameter)] = values


def _put_back(optimizer: Optimizer) -> Callable[[], None]:
    """Puts back the parameters of an optimizer and what it kept of them."""
    groups = [(group, list(group["params"])) for group in optimizer.param_groups]
    states = dict(optimizer.state)

    def put_back() -> None:
        for group, parameters in groups:
            group["params"][:] = parameters
        optimizer.state.clear()
        optimizer.state.update(states)

    return put_back


def _shard_again(sharded: ShardedModel, model: nn.Module, optimizers: Sequence[Optimizer]) -> None:
    """Apply ``fully_shard`` to what has grown; its parts become distributed tensors.

    torch gets parameters on the meta device, so it cuts and copies nothing; the shards are put in
    their places, as torch has it for weights that are loaded later.
    """
    move_marks(model, sharded.unit)
    named = dict(model.named_parameters())
    ignored = {named[name] for name in sharded.whole & named.keys()}
    _replace(model, (), _blank(named.values()), _same)
    apply_again(model, ignored)

    def distributed(value: Any) -> Any:
        return _distributed(value, apart=not sharded.inplace)

    made: dict[Tensor, nn.Parameter] = {}
    in_place: dict[Tensor, nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        # By names: the objects are others, and what they stood for is known under the old ones.
        old = named[name]
        if isinstance(old, GatheringTensor):
            made[old] = nn.Parameter(distributed(old), old.requires_grad)
            in_place[parameter] = made[old]
        elif parameter is not old:  # of a new layer, which torch has cut
            made[old] = parameter
    _replace(model, (), in_place, _same)
    if sharded.inplace:  # what a graph was made of holds the same parameters
        _replace(sharded.model, (), made, _same)
        remove_marks(sharded.model)
    # What an optimizer keeps of a parameter it finds by the object.
    for optimizer in optimizers:
        _replace_in(optimizer, made, distributed)
        _cut_new_state(optimizer)


def _blank(parameters: Iterable[nn.Parameter]) -> dict[Tensor, nn.Parameter]:
    """For each that is gathered on use one without numbers, which torch cuts without memory."""
    blank: dict[Tensor, nn.Parameter] = {}
    for parameter in parameters:
        if isinstance(parameter, GatheringTensor):
            empty = torch.empty(parameter.shape, dtype=parameter.dtype, device="meta")
            blank[parameter] = nn.Parameter(empty, parameter.requires_grad)
    return blank


def _same(value: Any) -> Any:
    return value


def _distributed(value: Any, *, apart: bool) -> Any:
    """The distributed tensor that a gathering one stands for; any other value itself.

    Args:
        value: anything.
        apart: the part may be another model's, too, which goes on training.
    """
    if not isinstance(value, GatheringTensor):
        return value
    local = value.parts.local.clone() if apart else value.parts.local
    return value.parts.layout.sharded(local, value.parts.shape)


def _cut_new_state(optimizer: Optimizer) -> None:
    """Cut what an optimizer keeps whole of a sharded parameter, as the parameter is cut."""
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            is_whole = isinstance(value, Tensor) and not isinstance(value, DTensor)
            if isinstance(parameter, DTensor) and is_whole and value.shape == parameter.shape:
                layout = ShardLayout(
                    parameter.device_mesh, parameter.placements, Ranks(), new_record()
                )
                values[name] = layout.sharded(layout.cut(value).local, value.shape)
