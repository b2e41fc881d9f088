"""The ``forward`` of a block as lines of source."""

from math import inf

from fxgrow.export.python.blocks import SourceBlock, is_within
from fxgrow.export.python.layout import Bracket, Code, call_code, code_lines, single_line
from fxgrow.export.python.names import Names
from fxgrow.export.python.operators import IN_PLACE, operator_code
from fxgrow.export.python.structure import PathStep, Structure
from fxgrow.export.python.values import arguments_code, value_code
from fxgrow.export.python.variables import ELEMENT, Variables, is_element, name_stem
from fxgrow.spec import NodeArg, NodeSpec

_BODY = 8


class Forward:
    """Writes the method of one block."""

    def __init__(self, structure: Structure, names: Names, block: SourceBlock) -> None:
        self.structure, self.names, self.block = structure, names, block
        self.steps = list(structure.steps(block))
        last: dict[str, float] = {
            name: at for at, step in enumerate(self.steps) for name in structure.uses(step)
        }
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
        if name in got and is_within(got[name], self.block.path):
            return self.structure.reach(self.block.path, got[name])
        return self.variables[name]

    def _signature(self) -> list[str]:
        inputs = [
            step for step in self.steps if isinstance(step, NodeSpec) and step.op == "placeholder"
        ]
        written: list[Code] = ["self", *(self._input(node) for node in inputs)]
        if self.block.path:
            written += self.variables.assign(-1, self.block.takes, ())
        return code_lines(call_code("forward", written), 4, "def ", ":")

    def _input(self, node: NodeSpec) -> str:
        name = self.names.of_input(node.target)
        self.variables.held[node.name] = name
        return f"{name}={single_line(value_code(node.args[0], self.look))}" if node.args else name

    def _step(self, at: int, step: PathStep) -> list[str]:
        if isinstance(step, SourceBlock):
            function = self.structure.reach(self.block.path, step.path)
            return self._assigned(
                at, step, call_code(function, map(self.look, step.takes)), step.gives
            )
        if step.op == "placeholder":
            return []
        if step.op == "output":
            return _returned(value_code(step.args[0], self.look))
        gives = (step.name,) if step.name in self.last else ()
        return self._assigned(at, step, self._expression(step), gives)

    def _expression(self, node: NodeSpec) -> Code:
        if node.op == "call_module":
            function = self.structure.reach(self.block.path, node.target)
            return call_code(function, arguments_code(node.args, node.kwargs, self.look))
        return operator_code(node, self.names, self.look)

    def _assigned(self, at: int, step: PathStep, code: Code, gives: tuple[str, ...]) -> list[str]:
        operands = [name for name in self.structure.uses(step) if name in self.variables.held]
        augmented = self._augmented(step) if gives else None
        before = self.variables.held.get(operands[0]) if operands else None
        if not gives:
            return code_lines(code, _BODY)
        targets = self.variables.assign(at, gives, operands, self._stem(step, before))
        if augmented is not None and targets == [before]:
            return code_lines(augmented, _BODY)
        return code_lines(code, _BODY, f"{', '.join(targets)} = ")

    def _stem(self, step: PathStep, operand: str | None) -> str | None:
        if isinstance(step, SourceBlock):
            return None
        return ELEMENT if is_element(step, operand) else name_stem(step)

    def _augmented(self, step: PathStep) -> str | None:
        """``x += y`` for an operator that writes in place; only good if its result takes over the name of x."""
        if (
            isinstance(step, SourceBlock)
            or step.target not in IN_PLACE
            or step.op != "call_function"
        ):
            return None
        left, right = (single_line(value_code(item, self.look)) for item in step.args)
        return (
            f"{left} {IN_PLACE[step.target]} {right}" if isinstance(step.args[0], NodeArg) else None
        )

    def _return(self) -> list[str]:
        if not self.block.path:
            return []  # the graph's own output does it
        found = tuple(self.look(name) for name in self.block.gives)
        return _returned(found[0] if len(found) == 1 else Bracket("(", found, packed=False))


def _returned(code: Code) -> list[str]:
    """A tuple goes without brackets where it fits on the line."""
    if isinstance(code, Bracket) and code.head == "(" and len(code.items) > 1:
        plain = code_lines(", ".join(map(single_line, code.items)), _BODY, "return ")
        return plain if len(plain[0]) <= 88 else code_lines(code, _BODY, "return ")
    return code_lines(code, _BODY, "return ")
