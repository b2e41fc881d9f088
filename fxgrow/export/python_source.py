"""``python``: the architecture as a file that imports torch alone.

The keys of its state dict are those of ``model.safetensors``.
"""

import importlib.util
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import torch
from torch import Tensor, nn

from fxgrow.errors import ExportError
from fxgrow.export.compare import check_outputs
from fxgrow.export.format import Check, Options
from fxgrow.export.python import NETWORK_CLASS, python_source
from fxgrow.export.source_model import ExportSource, cloned, example_tensors
from fxgrow.export.summary import heading
from fxgrow.export.torch_export import largest_error
from fxgrow.spec import state_tensors

# The source calls the same functions in the same order, so no bit may differ.
_TOLERANCE = 0.0


def write_python(source: ExportSource, path: Path, options: Options) -> Check:
    """Write the source, import it, load the weights and compare bit for bit.

    Args:
        source: the model.
        path: the file to write.
        options: none of them is used.

    Returns:
        How it was checked.

    Raises:
        ExportError: ``no-source``, ``export-differs``.
    """
    del options
    text = python_source(source.spec, heading(source.spec))
    network = _with_weights(_instantiated(text), source)

    def run_network(inputs: tuple[Tensor, ...]) -> list[Tensor]:
        return example_tensors(network(*cloned(inputs)))

    with torch.no_grad():
        error = largest_error(source, (source.example_inputs,), run_network)
    check_outputs(error, _TOLERANCE, "the imported source")
    path.write_text(text, encoding="ascii")
    return Check(f"class {NETWORK_CLASS}; imported, given the weights, compared bit for bit", error)


def _instantiated(text: str) -> nn.Module:
    """The network that a source defines, in evaluation mode.

    Running the source is as safe as running the graph: both are made from the checked spec.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder, "network.py")
        file.write_text(text, encoding="ascii")
        network: nn.Module = getattr(_imported(file), NETWORK_CLASS)()
    return network.eval()


def _imported(file: Path) -> ModuleType:
    # By its path, so that it enters neither sys.path nor sys.modules.
    spec = importlib.util.spec_from_file_location("fxgrow_exported_network", file)
    if spec is None or spec.loader is None:
        raise ExportError("no-source", f"{file} cannot be imported; report it")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _with_weights(network: nn.Module, source: ExportSource) -> nn.Module:
    state = state_tensors(source.graph_module, source.spec)
    # Keys that only one of both has.
    unmatched = sorted(network.state_dict().keys() ^ state.keys())
    if unmatched:
        raise ExportError(
            "export-differs",
            f"the source does not hold the tensor {unmatched[0]!r} alike, so it is not written",
        )
    network.load_state_dict(state, assign=False)
    return network
