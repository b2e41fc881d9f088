"""The order in which a graph module has registered its modules."""

from torch import fx, nn


def register_as_used(graph_module: fx.GraphModule) -> None:
    """Register modules and parameters in the order in which the graph uses them first.

    Inserted layers are registered last, and where they grow again, from a history, somewhere else.
    An optimizer's state is saved by the order of the parameters, so both must have the same.

    Args:
        graph_module: is changed in place; what its graph does not use keeps its place at the end.
    """
    # Whatever torch copies for a graph it copies in the order of the nodes.
    _order_like(graph_module, fx.GraphModule(graph_module, graph_module.graph))


def _order_like(module: nn.Module, model: nn.Module) -> None:
    for table, ordered in (
        (module._modules, model._modules),
        (module._parameters, model._parameters),
    ):
        unused = [name for name in table if name not in ordered]
        for name in [name for name in ordered if name in table] + unused:
            table[name] = table.pop(name)  # type: ignore[assignment]
    for name, child in model._modules.items():
        # Those in between hold others and nothing else; a module that is called is one of both.
        if child is not None and child is not module._modules[name]:
            _order_like(module._modules[name], child)  # type: ignore[arg-type]
