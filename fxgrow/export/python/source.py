"""The architecture as a file of Python that needs torch and nothing of fxgrow.

One class per container whose calls are a run of the graph, ``nn.Sequential`` where it is a chain,
containers that are written alike as one class. Its state dict has the keys of the weights file,
tied tensors once, and all buffers.
"""

from collections.abc import Iterable, Sequence

from fxgrow.errors import ExportError
from fxgrow.export.python.forward import Forward
from fxgrow.export.python.layout import (
    Bracket,
    Code,
    call_code,
    code_lines,
    string_code,
    suffixed_code,
)
from fxgrow.export.python.modules import buffer_code, constructor_code, parameter_code
from fxgrow.export.python.names import Names
from fxgrow.export.python.structure import ContainerKind, Structure
from fxgrow.spec import (
    CONTAINER,
    DTYPES,
    ArchitectureSpec,
    BufferSpec,
    ModuleSpec,
    ParameterSpec,
    is_word,
)

NETWORK_CLASS = "Network"
_BODY = 8
# Of the containers that share a class, so many are named in its docstring.
_MAX_LISTED = 4

_TIES = '''
def _fill_ties(module, state_dict, prefix, *_):
    """Weights files hold tied tensors once, under the first of their names."""
    for name, first in TIED.items():
        if prefix + first in state_dict:
            state_dict.setdefault(prefix + name, state_dict[prefix + first])


def _drop_ties(module, state_dict, prefix, *_):
    for name in TIED:
        state_dict.pop(prefix + name, None)
'''.strip().splitlines()
_TIE_HOOKS = (
    "register_load_state_dict_pre_hook(_fill_ties)",
    "register_state_dict_post_hook(_drop_ties)",
)


def python_source(spec: ArchitectureSpec, heading: Sequence[str] = ()) -> str:
    """Write the architecture as a module with the class ``Network``.

    Args:
        spec: the architecture.
        heading: lines of the module's docstring, in plain words.

    Returns:
        The text of the module, in ASCII, formatted as ruff does it.

    Raises:
        ExportError: ``no-source``, for what is no part of torch or torchvision.
    """
    return _Source(spec).text(heading)


class _Source:
    """Writes one source."""

    def __init__(self, spec: ArchitectureSpec) -> None:
        self.spec, self.names, self.structure = spec, Names(spec), Structure(spec)
        # The lines of a class -> its name, and the containers that it stands for.
        self.classes: dict[tuple[str, ...], tuple[str, list[str]]] = {}
        self.tied: dict[str, str] = {}
        for tensor in spec.tensors:
            if tensor.tied_to is not None:
                self.tied[tensor.name] = tensor.tied_to
        self.dtypes = _real_dtypes(spec.tensors)

    def text(self, heading: Sequence[str]) -> str:
        body = self._class_body("", self._finish())
        parts = self._tie_functions()
        for lines, (name, paths) in self.classes.items():
            parts.append(_class(name, _listing(paths), list(lines)))
        parts.append(_class(NETWORK_CLASS, "", body))
        code = "\n\n\n".join("\n".join(part) for part in parts)
        head = [*_docstring(heading), *self.names.imports(code)]
        # One empty line between the imports and a table, two before a class.
        apart = "\n\n" if self.tied else "\n\n\n"
        return "\n".join(head) + f"{apart}{code}\n"

    def _tie_functions(self) -> list[list[str]]:
        """The table of tied tensors, and the hooks that read and write state dicts without them."""
        if not self.tied:
            return []
        entries = []
        for name, first in self.tied.items():
            entries.append(f"{string_code(name)}: {string_code(first)}")
        table = code_lines(Bracket("{", tuple(entries), "}", packed=False), 0, "TIED = ")
        return [[*table, "", "", *_TIES]]

    def _class_body(self, path: str, finish: Iterable[str] = ()) -> list[str]:
        """The methods of a container's class: what it holds, ``finish``, and its forward."""
        inside = self.structure.inside[path]
        lines = ["    def __init__(self):", "        super().__init__()"]
        for module in inside.modules:
            lines += self._set(module.name, self._module(module), "add_module")
        for parameter in inside.parameters:
            # A tied parameter is set at the end, when the tensor that it shares exists.
            if parameter.tied_to is None:
                code = parameter_code(parameter)
                lines += self._set(parameter.name, code, "register_parameter")
        for buffer in inside.buffers:
            lines += _registered_buffer(buffer)
        lines += finish
        block = self.structure.blocks.get(path)
        # A container that is no block has no forward: its modules are called from outside.
        if block is not None:
            lines += ["", *Forward(self.structure, self.names, block).lines()]
        return lines

    def _set(self, name: str, code: Code, register: str) -> list[str]:
        """``self.name = code``, or a call of ``register`` if the name is no identifier."""
        attribute = name.rpartition(".")[2]
        if is_word(attribute):
            return code_lines(code, _BODY, f"self.{attribute} = ")
        return code_lines(call_code(f"self.{register}", (string_code(attribute), code)), _BODY)

    def _module(self, item: ModuleSpec) -> Code:
        if item.type != CONTAINER:
            return self._leaf(item)
        kind = self.structure.kinds[item.name]
        if kind is ContainerKind.CLASS:
            return f"{self._class_of(item.name)}()"
        parts = tuple(map(self._module, self.structure.inside[item.name].modules))
        if kind is ContainerKind.SEQUENTIAL:
            return call_code(kind.value, parts)
        return call_code(kind.value, (Bracket("[", parts, "]", packed=False),))

    def _class_of(self, path: str) -> str:
        """The class of a container; those with the same body share one."""
        body = tuple(self._class_body(path))
        if body not in self.classes:
            self.classes[body] = (self.names.of_class(path), [])
        name, paths = self.classes[body]
        paths.append(path)
        return name

    def _leaf(self, item: ModuleSpec) -> Code:
        """The constructor of a leaf module, cast to its dtype and frozen as it was."""
        code = constructor_code(item, self.names)
        tensors = _tensors_of(item, self.spec.tensors)
        dtypes = _real_dtypes(tensors)
        if len(dtypes) > 1:
            raise ExportError(
                "no-source",
                f"{item.name} mixes tensors of {' and '.join(sorted(dtypes))}; "
                "convert it to one dtype",
            )
        # With one dtype for all, the whole network is cast at the end instead.
        if len(self.dtypes) > 1 and dtypes - {"float32"}:
            code = suffixed_code(code, f".to(torch.{min(dtypes)})")
        return suffixed_code(code, ".requires_grad_(False)") if _all_frozen(tensors) else code

    def _finish(self) -> list[str]:
        """What is set when all modules exist: one dtype for all, single frozen tensors, ties."""
        lines = []
        if len(self.dtypes) == 1 and "float32" not in self.dtypes:
            lines.append(f"        self.to(torch.{min(self.dtypes)})")
        for name in self._frozen_alone():
            lines += code_lines(f"{self._reach(name)}.requires_grad_(False)", _BODY)
        for name, first in self.tied.items():
            lines += self._tie(name, first)
        if self.tied:
            lines += [f"        self.{hook}" for hook in _TIE_HOOKS]
        return lines

    def _reach(self, name: str) -> str:
        return self.structure.reach("", name)

    def _tie(self, name: str, first: str) -> list[str]:
        owner_path, _, attribute = name.rpartition(".")
        owner = self._reach(owner_path) if owner_path else "self"
        if is_word(attribute):
            return [f"        {owner}.{attribute} = {self._reach(first)}"]
        arguments = (owner, string_code(attribute), self._reach(first))
        return code_lines(call_code("setattr", arguments), _BODY)

    def _frozen_alone(self) -> list[str]:
        """Frozen parameters of leaf modules that also hold some that learn."""
        names = []
        for item in self.spec.modules:
            parameters = _tensors_of(item, self.spec.parameters)
            # A leaf that is frozen as a whole is frozen where it is made.
            if item.type != CONTAINER and not _all_frozen(parameters):
                for parameter in parameters:
                    if isinstance(parameter, ParameterSpec) and not parameter.requires_grad:
                        names.append(parameter.name)
        return names


def _tensors_of(
    module: ModuleSpec, tensors: Iterable[ParameterSpec | BufferSpec]
) -> list[ParameterSpec | BufferSpec]:
    """The tensors of a module and of the modules in it."""
    return [tensor for tensor in tensors if tensor.name.startswith(f"{module.name}.")]


def _real_dtypes(tensors: Iterable[ParameterSpec | BufferSpec]) -> set[str]:
    dtypes = {tensor.dtype for tensor in tensors}
    return {name for name in dtypes if DTYPES[name].is_floating_point}


def _all_frozen(tensors: Iterable[ParameterSpec | BufferSpec]) -> bool:
    """Whether there are parameters and none of them learns."""
    flags = {item.requires_grad for item in tensors if isinstance(item, ParameterSpec)}
    return flags == {False}


def _registered_buffer(buffer: BufferSpec) -> list[str]:
    attribute = buffer.name.rpartition(".")[2]
    arguments = (string_code(attribute), buffer_code(buffer))
    return code_lines(call_code("self.register_buffer", arguments), _BODY)


def _class(name: str, words: str, body: list[str]) -> list[str]:
    docstring = [f'    """{words}"""', ""] if words else []
    return [f"class {name}(nn.Module):", *docstring, *body]


def _listing(paths: Sequence[str]) -> str:
    listed = ", ".join(paths[:_MAX_LISTED])
    more = len(paths) - _MAX_LISTED
    return f"{listed} and {more} more" if more > 0 else listed


def _docstring(heading: Sequence[str]) -> list[str]:
    return [f'"""{heading[0]}', *heading[1:], '"""', ""] if heading else []
