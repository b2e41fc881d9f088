"""``hub``: a directory as on the model hubs, which fxgrow loads and which torch alone can run.

::

    config.json  model.safetensors    as ``fxgrow.load`` reads them
    model.py                          the architecture for torch alone
    README.md                         the model card
"""

import re
from dataclasses import replace
from pathlib import Path

from fxgrow.errors import ExportError
from fxgrow.export import plain
from fxgrow.export.card import card
from fxgrow.export.compare import check
from fxgrow.export.format import Check, Options
from fxgrow.export.program import largest_error
from fxgrow.export.subject import Subject, tensors
from fxgrow.spec import load
from fxgrow.spec import write as write_spec
from fxgrow.spec.save import state_of

CARD, SOURCE = "README.md", "model.py"
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


def write(subject: Subject, path: Path, options: Options) -> Check:
    """Write the directory, load it back and compare bit for bit.

    Raises ``ExportError``: bad-license, no-source, export-differs.
    """
    if not _LICENSE.fullmatch(options.license):
        raise ExportError(
            "bad-license", f"{options.license!r} is no license as hubs abbreviate them; say apache-2.0 or mit"
        )
    write_spec(path, subject.spec, state_of(subject.graph_module, subject.spec))
    plain.write(subject, path / SOURCE, options)
    (path / CARD).write_text(card(subject.spec, options.license), encoding="ascii")
    loaded = replace(subject, graph_module=load(path))
    error = largest_error(subject, (subject.example_inputs,), lambda inputs: tensors(loaded.run(inputs)))
    check(error, 0.0, "the loaded directory")
    return Check("loaded back and compared bit for bit, as were the weights in model.py", error)
