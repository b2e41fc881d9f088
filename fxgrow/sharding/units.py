"""The units of ``fully_shard``: taken off a model, and applied to it again with their settings.

torch fixes sizes when it shards (paddings, buffers of exchanges), and has no way to take that back.
So a unit's hooks, state and class are put aside, and ``fully_shard`` is called anew for the grown
modules. Names with an underscore are torch's own: there are no public ones for them.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn
from torch.distributed import _composable_state
from torch.distributed._composable.contract import REGISTRY_KEY, STATE_KEY
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

_MARK = "_fxgrow_sharded_unit"
"""Where a module says that it is a unit; copies of it say so, too."""

_METHODS = "_fxgrow_gathering_methods"
"""Where it says which of its methods gather, as ``forward`` does."""

_ON_MANAGED = ("_is_fsdp_managed_module", "_fsdp_use_orig_params")
"""Attributes that ``fully_shard`` gives to every module that it looks after."""

_KEPT = (
    "reduce_grads",
    "all_reduce_grads",
    "reshard_after_backward",
    "reduce_scatter_max_input_buffers",
    "gradient_divide_factor",
    "reduce_scatter_unused_params",
    "force_sum_reduction_for_comms",
    "unshard_async_op",
    "unshard_in_backward",
    "_all_reduce_hook",
    "_all_reduce_hook_stream",
    "_all_gather_comm",
    "_reduce_scatter_comm",
)
"""What the methods of ``FSDPModule`` set on the group of a unit's parameters."""


@dataclass(eq=False)
class Unit:
    """How ``fully_shard`` was called for some modules.

    Args:
        options: its arguments; ``ignored_params`` is not among them.
        members: how many modules it was called for at once.
        kept: what was set on the group of its parameters since.
        prefetched: the units that it gathers early, by the method that said so.
    """

    options: dict[str, Any]
    members: int
    kept: dict[str, Any]
    prefetched: dict[str, list["Unit"]] = field(default_factory=dict)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Unit":
        return self


def state_of(module: nn.Module) -> Any:
    """What torch keeps of a unit; None of a module that is none."""
    return module._get_fsdp_state() if isinstance(module, FSDPModule) else None


def groups_of(module: nn.Module) -> list[Any]:
    """The groups of parameters of a unit: one, or none if it has no parameters of its own."""
    state = state_of(module)
    return [] if state is None else list(state._fsdp_param_groups)


def mark_units(model: nn.Module) -> Unit | None:
    """Write down on each unit of a model how it was made.

    Args:
        model: a model to which ``fully_shard`` was applied.

    Returns:
        The unit that the model itself is, if it is one.
    """
    units: dict[int, Unit] = {}
    for module in model.modules():
        state = state_of(module)
        if state is not None:
            unit = units.setdefault(id(state), _unit_of(state))
            vars(module).update({_MARK: unit, _METHODS: _methods_that_gather(module)})
    for module in model.modules():
        state = state_of(module)
        if state is not None:
            units[id(state)].prefetched = _prefetched(state, units)
    return vars(model).get(_MARK)


def _methods_that_gather(module: nn.Module) -> tuple[str, ...]:
    """The names of the methods of a module that ``register_fsdp_forward_method`` has wrapped."""
    file = inspect.getfile(register_fsdp_forward_method)
    names = []
    for name, value in vars(module).items():
        code = getattr(getattr(value, "__func__", None), "__code__", None)
        if code is not None and code.co_filename == file:
            names.append(name)
    return tuple(names)


def _unit_of(state: Any) -> Unit:
    groups = state._fsdp_param_groups
    options = {"mp_policy": state._mp_policy}
    kept = {}
    if groups:
        group = groups[0]
        options |= {"mesh": group.mesh_info.mesh, "offload_policy": group.offload_policy}
        kept = {name: getattr(group, name) for name in _KEPT if hasattr(group, name)}
    options["reshard_after_forward"] = _reshard_after_forward(state)
    return Unit(options, len(state._modules), kept)


def _reshard_after_forward(state: Any) -> bool | int | None:
    """What was said, or None if that was left to torch."""
    # Of the root torch decides in the first pass, unless it was told.
    groups = state._fsdp_param_groups
    if state._auto_reshard_after_forward or not groups:
        return None
    after, during = groups[0].post_forward_mesh_info, groups[0].mesh_info
    if after is None:
        return False
    return True if after is during else int(after.shard_mesh_size)


_PREFETCH = {
    "set_modules_to_forward_prefetch": "_states_to_forward_prefetch",
    "set_modules_to_backward_prefetch": "_states_to_backward_prefetch",
}


def _prefetched(state: Any, units: dict[int, Unit]) -> dict[str, list[Unit]]:
    found = {}
    for method, name in _PREFETCH.items():
        of_states = [units[id(other)] for other in getattr(state, name) if id(other) in units]
        if of_states:
            found[method] = of_states
    return found


def take_off(model: nn.Module) -> Callable[[], None]:
    """Make a plain model of one to which ``fully_shard`` was applied; its tensors stay as they are.

    Args:
        model: its units are marked.

    Returns:
        Makes the model what it was: the same parameters, hooks and states.
    """
    put_back = [_put_back(module) for module in model.modules()]
    # One of several modules has the state of all of them.
    states = {id(state): state for state in map(state_of, model.modules()) if state is not None}
    for module in model.modules():
        for name in _ON_MANAGED:
            vars(module).pop(name, None)
    for state in states.values():
        for handle in _handles(state):
            handle.remove()
        for module in state._modules:
            _forget_state(module)

    def undo() -> None:
        for one in put_back:
            one()

    return undo


def _forget_state(module: nn.Module) -> None:
    """Give a module its own class again, and let torch forget that it is a unit."""
    # Else torch would say that ``fully_shard`` was applied twice.
    _composable_state._module_state_mapping.pop(module)
    for key in (STATE_KEY, REGISTRY_KEY):
        vars(module).pop(key)
    for name in _methods_that_gather(module):
        vars(module).pop(name)  # that of the class is below
    kind: Any = type(module)
    module.__class__ = kind.__mro__[kind._orig_cls_mro_index]


def _handles(state: Any) -> list[Any]:
    """The handles of all hooks of a unit."""
    handles = [state._pre_forward_hook_handle]
    if state._post_forward_hook_handle is not state._pre_forward_hook_handle:
        handles.append(state._post_forward_hook_handle)
    for group in state._fsdp_param_groups:
        handles += [one._post_load_hook_handle for one in group.fsdp_params]
        handles += group._module_to_pre_save_state_dict_hook_handle.values()
        handles += group._module_to_pre_load_state_dict_hook_handle.values()
    return handles


def _put_back(module: nn.Module) -> Callable[[], None]:
    """Puts back the class, the attributes, and what is in their tables (parameters, hooks)."""
    kind, attributes = type(module), dict(vars(module))
    for mark in (_MARK, _METHODS):
        attributes.pop(mark, None)
    tables = [(value, value.copy()) for value in attributes.values() if isinstance(value, dict)]
    state = _composable_state._module_state_mapping.get(module)

    def put_back() -> None:
        vars(module).clear()
        vars(module).update(attributes)
        for table, contents in tables:
            table.clear()
            table.update(contents)
        module.__class__ = kind
        if state is not None:
            _composable_state._module_state_mapping[module] = state
        refer_to_own_weights(module)

    return put_back


def refer_to_own_weights(module: nn.Module) -> None:
    """Let a recurrent layer's list of weights hold those that it has now."""
    if isinstance(module, nn.RNNBase):
        module._flat_weights = [getattr(module, name, None) for name in module._flat_weights_names]


def apply_again(model: nn.Module, ignored: set[nn.Parameter]) -> None:
    """Call ``fully_shard`` for each unit that is marked in a model, and remove the marks.

    Args:
        model: a model, which may have grown; copies of units are units, too.
        ignored: parameters that stay as they are in all processes.
    """
    calls = _marked(model)
    for unit, modules in calls:
        given = {name: value for name, value in unit.options.items() if value is not None}
        what: Any = modules[0] if unit.members == 1 else modules
        fully_shard(what, ignored_params=ignored or None, **given)
        for group in groups_of(modules[0]):
            for name, value in unit.kept.items():
                setattr(group, name, value)
        for module in modules:
            for name in vars(module).pop(_METHODS, ()):
                register_fsdp_forward_method(module, name)
    # A unit may gather another one early that is sharded after it.
    first = {id(unit): modules[0] for unit, modules in calls}
    for unit, modules in calls:
        for method, others in unit.prefetched.items():
            found = [first[id(other)] for other in others if id(other) in first]
            getattr(modules[0], method)(found)


def _marked(model: nn.Module) -> list[tuple[Unit, list[nn.Module]]]:
    """The units of a model with their modules, parts before the whole; their marks are removed."""
    calls: list[tuple[Unit, list[nn.Module]]] = []
    several: dict[int, list[nn.Module]] = {}
    for module in reversed(list(model.modules())):
        unit: Unit | None = vars(module).pop(_MARK, None)
        if unit is None:
            continue
        modules = several.setdefault(id(unit), [])
        modules.insert(0, module)
        # A copy of a block is a unit of its own.
        if unit.members == 1:
            calls.append((unit, [module]))
        elif len(modules) == unit.members:
            calls.append((unit, modules))
    return calls


def remove_marks(model: nn.Module) -> None:
    """Leave nothing on the modules of a model that says that they were units.

    Args:
        model: a model whose parts another one has by now.
    """
    for module in model.modules():
        for mark in (_MARK, _METHODS):
            vars(module).pop(mark, None)


def move_marks(grown: nn.Module, of_model: Unit | None) -> None:
    """Make units of the layers of a graph.

    A graph calls layers, and not the modules around them, so what a module around them would gather
    nobody would. The graph itself is the unit that the model was.

    Args:
        grown: a model that has grown; nothing is done unless it is a graph module.
        of_model: the unit that the model was.
    """
    if not isinstance(grown, fx.GraphModule):
        return
    if of_model is not None:
        vars(grown)[_MARK] = of_model
    called = {node.target for node in grown.graph.nodes if node.op == "call_module"}
    for path, module in list(grown.named_modules()):
        unit = vars(module).get(_MARK)
        if unit is None or not path or path in called:
            continue
        vars(module).pop(_MARK)
        for name, part in module.named_modules():
            if f"{path}.{name}" in called and unit.members == 1:
                vars(part).setdefault(_MARK, unit)
