"""``python``: the architecture as a file that imports torch alone; its weights are those of ``model.safetensors``."""

import importlib.util
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import torch
from torch import Tensor, nn

from fxgrow.errors import ExportError
from fxgrow.export.compare import check
from fxgrow.export.format import Check, Options
from fxgrow.export.program import largest_error
from fxgrow.export.python import NAME, source
from fxgrow.export.subject import Subject, tensors
from fxgrow.export.words import heading
from fxgrow.spec.save import state_of

BOUND = 0.0


def write(subject: Subject, path: Path, options: Options) -> Check:
    """Write the source, import it, load the weights and compare bit for bit.

    Raises ``ExportError``: no-source, export-differs.
    """
    del options
    text = source(subject.spec, heading(subject.spec))
    network = _with_weights(_made(text), subject)
    with torch.no_grad():
        error = largest_error(
            subject, (subject.example_inputs,), lambda inputs: tensors(network(*(each.clone() for each in inputs)))
        )
    check(error, BOUND, "the imported source")
    path.write_text(text, encoding="ascii")
    return Check(f"class {NAME}; imported, given the weights, compared bit for bit", error)


def _made(text: str) -> nn.Module:
    """The network of a source. Running it is as safe as running the graph: both are made from the checked spec."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "network.py")
        file.write_text(text, encoding="ascii")
        made: nn.Module = getattr(_imported(file), NAME)()
    return made.eval()


def _imported(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("fxgrow_exported_network", file)
    if spec is None or spec.loader is None:
        raise ExportError("no-source", f"{file} cannot be imported; report it")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _with_weights(network: nn.Module, subject: Subject) -> nn.Module:
    state: dict[str, Tensor] = state_of(subject.graph_module, subject.spec)
    odd = sorted(network.state_dict().keys() ^ state.keys())
    if odd:
        raise ExportError(
            "export-differs", f"the source does not hold the tensor {odd[0]!r} alike, so it is not written"
        )
    network.load_state_dict(state, assign=False)
    return network
