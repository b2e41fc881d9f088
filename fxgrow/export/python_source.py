"""``python``: the architecture as a file that imports torch alone; its weights are those of ``model.safetensors``."""

import importlib.util
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import torch
from torch import Tensor, nn

from fxgrow.errors import ExportError
from fxgrow.export.compare import check_outputs
from fxgrow.export.format import Check, Options
from fxgrow.export.python import _CLASS_NAME, python_source
from fxgrow.export.source_model import ExportSource, example_tensors
from fxgrow.export.summary import heading
from fxgrow.export.torch_export import largest_error
from fxgrow.spec import state_tensors

_TOLERANCE = 0.0


def write_python(subject: ExportSource, path: Path, options: Options) -> Check:
    """Write the source, import it, load the weights and compare bit for bit.

    Raises ``ExportError``: no-source, export-differs.
    """
    del options
    text = python_source(subject.spec, heading(subject.spec))
    network = _with_weights(_made(text), subject)
    with torch.no_grad():
        error = largest_error(
            subject,
            (subject.example_inputs,),
            lambda inputs: example_tensors(network(*(each.clone() for each in inputs))),
        )
    check_outputs(error, _TOLERANCE, "the imported source")
    path.write_text(text, encoding="ascii")
    return Check(f"class {_CLASS_NAME}; imported, given the weights, compared bit for bit", error)


def _made(text: str) -> nn.Module:
    """The network of a source. Running it is as safe as running the graph: both are made from the checked spec."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "network.py")
        file.write_text(text, encoding="ascii")
        made: nn.Module = getattr(_imported(file), _CLASS_NAME)()
    return made.eval()


def _imported(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("fxgrow_exported_network", file)
    if spec is None or spec.loader is None:
        raise ExportError("no-source", f"{file} cannot be imported; report it")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _with_weights(network: nn.Module, subject: ExportSource) -> nn.Module:
    state: dict[str, Tensor] = state_tensors(subject.graph_module, subject.spec)
    odd = sorted(network.state_dict().keys() ^ state.keys())
    if odd:
        raise ExportError(
            "export-differs",
            f"the source does not hold the tensor {odd[0]!r} alike, so it is not written",
        )
    network.load_state_dict(state, assign=False)
    return network
