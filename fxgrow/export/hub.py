"""``hub``: a directory as on the model hubs, which fxgrow loads and which torch alone can run.

::

    config.json  model.safetensors    as ``fxgrow.load`` reads them
    model.py                          the architecture for torch alone
    README.md                         the model card
"""

import re
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from fxgrow.errors import ExportError
from fxgrow.export import python_source
from fxgrow.export.card import card
from fxgrow.export.compare import check_outputs
from fxgrow.export.format import Check, Options
from fxgrow.export.source_model import ExportSource, example_tensors
from fxgrow.export.torch_export import largest_error
from fxgrow.spec import load, state_tensors, write_spec

CARD, SOURCE = "README.md", "model.py"
# The license enters YAML unquoted, so it may hold nothing that YAML reads as more than a word.
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


def write_hub(source: ExportSource, path: Path, options: Options) -> Check:
    """Write the directory, load it back and compare bit for bit.

    Args:
        source: the model.
        path: the directory, which does not exist yet.
        options: ``license`` is used.

    Returns:
        How it was checked.

    Raises:
        ExportError: ``bad-license``, ``no-source``, ``export-differs``.
    """
    if not _LICENSE.fullmatch(options.license):
        raise ExportError(
            "bad-license",
            f"{options.license!r} is no license as hubs abbreviate them; say apache-2.0 or mit",
        )
    write_spec(path, source.spec, state_tensors(source.graph_module, source.spec))
    python_source.write_python(source, path / SOURCE, options)
    (path / CARD).write_text(card(source.spec, options.license), encoding="ascii")
    loaded = replace(source, graph_module=load(path))

    def run_loaded(inputs: tuple[Tensor, ...]) -> list[Tensor]:
        return example_tensors(loaded.run(inputs))

    # The same kernels run on the same weights, so no bit may differ.
    error = largest_error(source, (source.example_inputs,), run_loaded)
    check_outputs(error, 0.0, "the loaded directory")
    return Check("loaded back and compared bit for bit, as were the weights in model.py", error)
