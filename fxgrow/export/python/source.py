"""The architecture as a file of Python that needs torch and nothing of fxgrow.

One class per container whose calls are a run of the graph, ``nn.Sequential`` where it is a chain, containers that are
written alike as one class. Its state dict has the keys of the weights file, tied tensors once, and all buffers.
"""

from collections.abc import Iterable, Sequence

from fxgrow.errors import ExportError
from fxgrow.export.python.forward import Forward
from fxgrow.export.python.layout import Bracket, Code, call_code, code_lines, string_code
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

_CLASS_NAME = "Network"
_BODY = 8
_LISTED = 4

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


def python_source(spec: ArchitectureSpec, heading: Sequence[str] = ()) -> str:
    """The text of a module with the class ``Network``. ``heading``: lines of its docstring, in plain words.

    Raises ``ExportError("no-source")`` for what is no part of torch or torchvision.
    """
    return _Source(spec).text(heading)


class _Source:
    def __init__(self, spec: ArchitectureSpec) -> None:
        self.spec, self.names, self.structure = spec, Names(spec), Structure(spec)
        self.classes: dict[tuple[str, ...], tuple[str, list[str]]] = {}
        self.tied = {item.name: item.tied_to for item in spec.tensors if item.tied_to is not None}
        self.dtypes = _floating(spec.tensors)

    def text(self, heading: Sequence[str]) -> str:
        body = self._class_body("", self._finish())
        inner = [
            _class(name, _listing(paths), list(text))
            for text, (name, paths) in self.classes.items()
        ]
        parts = [*self._tie_functions(), *inner, _class(_CLASS_NAME, "", body)]
        code = "\n\n\n".join("\n".join(part) for part in parts)
        head = [*_docstring(heading), *self.names.imports(code)]
        apart = "\n\n" if self.tied else "\n\n\n"  # a table, or a class, after the imports
        return "\n".join(head) + f"{apart}{code}\n"

    def _tie_functions(self) -> list[list[str]]:
        if not self.tied:
            return []
        entries = tuple(
            f"{string_code(name)}: {string_code(str(first))}" for name, first in self.tied.items()
        )
        return [
            [*code_lines(Bracket("{", entries, "}", packed=False), 0, "TIED = "), "", "", *_TIES]
        ]

    def _class_body(self, path: str, finish: Iterable[str] = ()) -> list[str]:
        inside = self.structure.inside[path]
        made = [
            line
            for item in inside.modules
            for line in self._set(item.name, self._module(item), "add_module")
        ]
        made += [
            line
            for item in inside.parameters
            if item.tied_to is None
            for line in self._set(item.name, parameter_code(item), "register_parameter")
        ]
        made += [line for item in inside.buffers for line in _registered(item)]
        head = ["    def __init__(self):", "        super().__init__()"]
        block = self.structure.blocks.get(path)
        forward = [] if block is None else ["", *Forward(self.structure, self.names, block).lines()]
        return [*head, *made, *finish, *forward]

    def _set(self, name: str, code: Code, register: str) -> list[str]:
        leaf = name.rpartition(".")[2]
        if is_word(leaf):
            return code_lines(code, _BODY, f"self.{leaf} = ")
        return code_lines(call_code(f"self.{register}", (string_code(leaf), code)), _BODY)

    def _module(self, item: ModuleSpec) -> Code:
        if item.type != CONTAINER:
            return self._leaf(item)
        kind = self.structure.kinds[item.name]
        if kind is ContainerKind.CLASS:
            return f"{self._class_of(item.name)}()"
        parts = tuple(self._module(part) for part in self.structure.inside[item.name].modules)
        if kind is ContainerKind.SEQUENTIAL:
            return call_code(kind.value, parts)
        return call_code(kind.value, (Bracket("[", parts, "]", packed=False),))

    def _class_of(self, path: str) -> str:
        body = tuple(self._class_body(path))
        if body not in self.classes:
            self.classes[body] = (self.names.of_class(path), [])
        name, paths = self.classes[body]
        paths.append(path)
        return name

    def _leaf(self, item: ModuleSpec) -> Code:
        made = constructor_code(item, self.names)
        tensors = [
            tensor for tensor in self.spec.tensors if tensor.name.startswith(f"{item.name}.")
        ]
        dtypes = _floating(tensors)
        if len(dtypes) > 1:
            raise ExportError(
                "no-source",
                f"{item.name} mixes tensors of {' and '.join(sorted(dtypes))}; convert it to one dtype",
            )
        if len(self.dtypes) > 1 and dtypes - {"float32"}:
            made = _chained(made, f".to(torch.{min(dtypes)})")
        return _chained(made, ".requires_grad_(False)") if _frozen(tensors) else made

    def _finish(self) -> list[str]:
        """What only the whole can do: one dtype for all, single frozen tensors, ties."""
        dtype = self.dtypes - {"float32"} if len(self.dtypes) == 1 else ()
        found = [f"        self.to(torch.{name})" for name in dtype]
        found += [
            line
            for name in self._frozen_alone()
            for line in code_lines(f"{self._reach(name)}.requires_grad_(False)", _BODY)
        ]
        for name, first in self.tied.items():
            found += self._tie(name, str(first))
        hooks = (
            "register_load_state_dict_pre_hook(_fill_ties)",
            "register_state_dict_post_hook(_drop_ties)",
        )
        return [*found, *(f"        self.{hook}" for hook in hooks if self.tied)]

    def _reach(self, name: str) -> str:
        return self.structure.reach("", name)

    def _tie(self, name: str, first: str) -> list[str]:
        owner, _, leaf = name.rpartition(".")
        where = self._reach(owner) if owner else "self"
        if is_word(leaf):
            return [f"        {where}.{leaf} = {self._reach(first)}"]
        return code_lines(
            call_code("setattr", (where, string_code(leaf), self._reach(first))), _BODY
        )

    def _frozen_alone(self) -> list[str]:
        """Frozen parameters of leaf modules that also hold some that learn."""
        found: list[str] = []
        for item in self.spec.modules:
            tensors = [
                tensor for tensor in self.spec.parameters if tensor.name.startswith(f"{item.name}.")
            ]
            if item.type != CONTAINER and not _frozen(tensors):
                found += [tensor.name for tensor in tensors if not tensor.requires_grad]
        return found


def _floating(tensors: Iterable[ParameterSpec | BufferSpec]) -> set[str]:
    return {item.dtype for item in tensors if DTYPES[item.dtype].is_floating_point}


def _frozen(tensors: Iterable[ParameterSpec | BufferSpec]) -> bool:
    flags = [item.requires_grad for item in tensors if isinstance(item, ParameterSpec)]
    return bool(flags) and not any(flags)


def _chained(code: Code, method: str) -> Code:
    return (
        f"{code}{method}"
        if isinstance(code, str)
        else Bracket(code.head, code.items, code.tail + method)
    )


def _registered(item: BufferSpec) -> list[str]:
    leaf = item.name.rpartition(".")[2]
    return code_lines(
        call_code("self.register_buffer", (string_code(leaf), buffer_code(item))), _BODY
    )


def _class(name: str, words: str, body: list[str]) -> list[str]:
    docstring = [f'    """{words}"""', ""] if words else []
    return [f"class {name}(nn.Module):", *docstring, *body]


def _listing(paths: Sequence[str]) -> str:
    return ", ".join(paths[:_LISTED]) + (
        f" and {len(paths) - _LISTED} more" if len(paths) > _LISTED else ""
    )


def _docstring(heading: Sequence[str]) -> list[str]:
    return [f'"""{heading[0]}', *heading[1:], '"""', ""] if heading else []
