"""The ``forward`` of a block as lines of source."""

from math import inf

from fxgrow.export.python.blocks import Block, within
from fxgrow.export.python.layout import Bracket, Code, call, flat, lines
from fxgrow.export.python.names import Names
from fxgrow.export.python.operators import IN_PLACE, expression
from fxgrow.export.python.structure import Step, Structure
from fxgrow.export.python.values import arguments, value
from fxgrow.export.python.variables import ELEMENT, Variables, is_element, stem
from fxgrow.spec.arguments import NodeArg
from fxgrow.spec.models import NodeSpec

_BODY = 8


class Forward:
    """Writes the method of one block."""

    def __init__(self, structure: Structure, names: Names, block: Block) -> None:
        self.structure, self.names, self.block = structure, names, block
        self.steps = list(structure.steps(block))
        last: dict[str, float] = {name: at for at, step in enumerate(self.steps) for name in structure.uses(step)}
        last.update(dict.fromkeys(block.gives, inf))
        self.last = last
        self.variables = Variables({}, last)

    def lines(self) -> list[str]:
        """The method, indented as part of a class."""
        head = self._signature()
        body = [line for at, step in enumerate(self.steps) for line in self._step(at, step)]
        return [*head, *body, *self._return()]

    def look(self, name: str) -> str:
        """The expression that holds the value of a node."""
        got = self.structure.program.got
        if name in got and within(got[name], self.block.path):
            return self.structure.reach(self.block.path, got[name])
        return self.variables[name]

    def _signature(self) -> list[str]:
        inputs = [step for step in self.steps if isinstance(step, NodeSpec) and step.op == "placeholder"]
        written: list[Code] = ["self", *(self._input(node) for node in inputs)]
        if self.block.path:
            written += self.variables.assign(-1, self.block.takes, ())
        return lines(call("forward", written), 4, "def ", ":")

    def _input(self, node: NodeSpec) -> str:
        name = self.names.of_input(node.target)
        self.variables.held[node.name] = name
        return f"{name}={flat(value(node.args[0], self.look))}" if node.args else name

    def _step(self, at: int, step: Step) -> list[str]:
        if isinstance(step, Block):
            function = self.structure.reach(self.block.path, step.path)
            return self._assigned(at, step, call(function, map(self.look, step.takes)), step.gives)
        if step.op == "placeholder":
            return []
        if step.op == "output":
            return _returned(value(step.args[0], self.look))
        gives = (step.name,) if step.name in self.last else ()
        return self._assigned(at, step, self._expression(step), gives)

    def _expression(self, node: NodeSpec) -> Code:
        if node.op == "call_module":
            function = self.structure.reach(self.block.path, node.target)
            return call(function, arguments(node.args, node.kwargs, self.look))
        return expression(node, self.names, self.look)

    def _assigned(self, at: int, step: Step, code: Code, gives: tuple[str, ...]) -> list[str]:
        operands = [name for name in self.structure.uses(step) if name in self.variables.held]
        augmented = self._augmented(step) if gives else None
        before = self.variables.held.get(operands[0]) if operands else None
        if not gives:
            return lines(code, _BODY)
        targets = self.variables.assign(at, gives, operands, self._stem(step, before))
        if augmented is not None and targets == [before]:
            return lines(augmented, _BODY)
        return lines(code, _BODY, f"{', '.join(targets)} = ")

    def _stem(self, step: Step, operand: str | None) -> str | None:
        if isinstance(step, Block):
            return None
        return ELEMENT if is_element(step, operand) else stem(step)

    def _augmented(self, step: Step) -> str | None:
        """``x += y`` for an operator that writes in place; only good if its result takes over the name of x."""
        if isinstance(step, Block) or step.target not in IN_PLACE or step.op != "call_function":
            return None
        left, right = (flat(value(item, self.look)) for item in step.args)
        return f"{left} {IN_PLACE[step.target]} {right}" if isinstance(step.args[0], NodeArg) else None

    def _return(self) -> list[str]:
        if not self.block.path:
            return []  # the graph's own output does it
        found = tuple(self.look(name) for name in self.block.gives)
        return _returned(found[0] if len(found) == 1 else Bracket("(", found, packed=False))


def _returned(code: Code) -> list[str]:
    """A tuple goes without brackets where it fits on the line."""
    if isinstance(code, Bracket) and code.head == "(" and len(code.items) > 1:
        plain = lines(", ".join(map(flat, code.items)), _BODY, "return ")
        return plain if len(plain[0]) <= 88 else lines(code, _BODY, "return ")
    return lines(code, _BODY, "return ")
