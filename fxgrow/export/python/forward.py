"""The ``forward`` of a block as lines of source."""

from math import inf

from fxgrow.export.python.blocks import SourceBlock, is_within
from fxgrow.export.python.layout import (
    LINE_WIDTH,
    Bracket,
    Code,
    call_code,
    code_lines,
    single_line,
)
from fxgrow.export.python.names import Names
from fxgrow.export.python.operators import IN_PLACE, item_assignment, operator_code
from fxgrow.export.python.structure import PathStep, Structure
from fxgrow.export.python.values import arguments_code, value_code
from fxgrow.export.python.variables import ELEMENT, Variables, is_element, name_stem
from fxgrow.spec import NodeArg, NodeSpec

_BODY = 8


class Forward:
    """Writes the method of one block.

    Args:
        structure: the modules of the source.
        names: the names that it may use.
        block: the block.
    """

    def __init__(self, structure: Structure, names: Names, block: SourceBlock) -> None:
        self.structure, self.names, self.block = structure, names, block
        self.steps = list(structure.steps(block))
        # Node -> the step that uses its value last; what the block gives is used after all steps.
        self.last_use: dict[str, float] = {}
        for number, step in enumerate(self.steps):
            self.last_use.update(dict.fromkeys(structure.uses(step), number))
        self.last_use.update(dict.fromkeys(block.gives, inf))
        self.variables = Variables({}, self.last_use)

    def lines(self) -> list[str]:
        """The method, indented as part of a class."""
        lines = self._signature()
        for number, step in enumerate(self.steps):
            lines += self._step(number, step)
        return [*lines, *self._return()]

    def look_up(self, name: str) -> str:
        """The expression that holds the value of a node."""
        tensors = self.structure.program.tensors
        if name in tensors and is_within(tensors[name], self.block.path):
            return self.structure.reach(self.block.path, tensors[name])
        return self.variables[name]

    def _signature(self) -> list[str]:
        arguments: list[Code] = ["self"]
        for step in self.steps:
            if isinstance(step, NodeSpec) and step.op == "placeholder":
                arguments.append(self._input(step))
        # An inner block has no placeholders: what it takes becomes its arguments.
        if self.block.path:
            arguments += self.variables.assign(-1, self.block.takes, ())
        return code_lines(call_code("forward", arguments), 4, "def ", ":")

    def _input(self, node: NodeSpec) -> str:
        """An argument of the model, with its default if it has one."""
        name = self.names.of_input(node.target)
        self.variables.held[node.name] = name
        if not node.args:
            return name
        return f"{name}={single_line(value_code(node.args[0], self.look_up))}"

    def _step(self, number: int, step: PathStep) -> list[str]:
        """The lines of one step; an input has none."""
        if isinstance(step, SourceBlock):
            function = self.structure.reach(self.block.path, step.path)
            call = call_code(function, map(self.look_up, step.takes))
            return self._assigned(number, step, call, step.gives)
        if step.op == "placeholder":
            return []
        if step.op == "output":
            return _returned(value_code(step.args[0], self.look_up))
        gives = (step.name,) if step.name in self.last_use else ()
        assignment = item_assignment(step, self.look_up)
        if assignment is not None and not gives:
            return code_lines(assignment, _BODY)
        return self._assigned(number, step, self._expression(step), gives)

    def _expression(self, node: NodeSpec) -> Code:
        if node.op == "call_module":
            function = self.structure.reach(self.block.path, node.target)
            return call_code(function, arguments_code(node.args, node.kwargs, self.look_up))
        return operator_code(node, self.names, self.look_up)

    def _assigned(
        self, number: int, step: PathStep, code: Code, gives: tuple[str, ...]
    ) -> list[str]:
        """``x = code``, or ``code`` alone if nothing uses its value."""
        if not gives:
            return code_lines(code, _BODY)
        operands = [name for name in self.structure.uses(step) if name in self.variables.held]
        # Written before the variables change hands.
        augmented = self._augmented(step)
        first_operand = self.variables.held[operands[0]] if operands else None
        stem = self._stem(step, first_operand)
        targets = self.variables.assign(number, gives, operands, stem)
        if augmented is not None and targets == [first_operand]:
            return code_lines(augmented, _BODY)
        return code_lines(code, _BODY, f"{', '.join(targets)} = ")

    def _stem(self, step: PathStep, operand: str | None) -> str | None:
        if isinstance(step, SourceBlock):
            return None
        return ELEMENT if is_element(step, operand) else name_stem(step)

    def _augmented(self, step: PathStep) -> str | None:
        """``x += y`` for an operator that writes in place; None for other steps.

        It is right only if the result takes over the variable ``x``.
        """
        if isinstance(step, SourceBlock) or step.op != "call_function":
            return None
        if step.target not in IN_PLACE or not isinstance(step.args[0], NodeArg):
            return None
        left, right = step.args
        left_line = single_line(value_code(left, self.look_up))
        right_line = single_line(value_code(right, self.look_up))
        return f"{left_line} {IN_PLACE[step.target]} {right_line}"

    def _return(self) -> list[str]:
        # The graph's own output node returns the values of the model.
        if not self.block.path:
            return []
        values = tuple(map(self.look_up, self.block.gives))
        return _returned(values[0] if len(values) == 1 else Bracket("(", values, packed=False))


def _returned(code: Code) -> list[str]:
    """A tuple goes without brackets where it fits on the line."""
    if isinstance(code, Bracket) and code.head == "(" and len(code.items) > 1:
        plain = code_lines(", ".join(map(single_line, code.items)), _BODY, "return ")
        if len(plain[0]) <= LINE_WIDTH:
            return plain
    return code_lines(code, _BODY, "return ")
