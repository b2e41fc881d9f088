"""The model card: YAML front matter that hubs read, then what people want to know."""

from collections.abc import Iterable, Sequence

from fxgrow.export.summary import cost_text, grouped_lines, plain_name, step_text
from fxgrow.spec import CONTAINER, ArchitectureSpec, GrowthStep

_LOADING = """## Loading it
With fxgrow, which checks every name and the weights' digest and runs no code of this directory:

```python
import fxgrow

model = fxgrow.load("path/to/this/directory")
```

With torch and safetensors alone:

```python
import safetensors.torch
from model import Network

network = Network().eval()
network.load_state_dict(safetensors.torch.load_file("model.safetensors"))
```
"""


def card(spec: ArchitectureSpec, license_name: str) -> str:
    """The text of a README.md. Free text of the spec is reduced to plain words."""
    tags = ["fxgrow", "pytorch", *(["grown"] if spec.history else [])]
    front = [
        "---",
        "library_name: fxgrow",
        f"license: {license_name}",
        "tags:",
        *(f"- {tag}" for tag in tags),
        "---",
    ]
    parts = [
        *front,
        "",
        "# A network saved by fxgrow",
        "",
        cost_text(spec),
        "",
        *_architecture(spec),
        *_history(spec),
    ]
    return "\n".join(parts) + f"\n{_LOADING}\nFingerprint `{spec.fingerprint}`.\n"


def _architecture(spec: ArchitectureSpec) -> list[str]:
    leaves = [item for item in spec.modules if item.type != CONTAINER]
    rows = [(item.name, item.type.rpartition(".")[2], _tensors(spec, item.name)) for item in leaves]
    return ["## Architecture", *_table(("module", "class", "parameters"), rows), ""]


def _tensors(spec: ArchitectureSpec, name: str) -> str:
    shapes = [
        f"{item.name[len(name) + 1 :]} {'x'.join(map(str, item.shape)) or 'scalar'}"
        for item in spec.parameters
        if item.name.startswith(f"{name}.")
    ]
    return ", ".join(shapes) or "-"


def _history(spec: ArchitectureSpec) -> list[str]:
    if not spec.history:
        return ["## Growth", "Never grown.", ""]
    return [
        "## Growth",
        *(line for number, step in enumerate(spec.history, 1) for line in _step(number, step)),
    ]


def _step(number: int, step: GrowthStep) -> list[str]:
    widths = [
        (
            plain_name(change.width),
            str(change.before),
            str(change.after),
            str(change.split),
            str(change.new),
            _best(change.scores),
        )
        for change in step.widths
    ]
    layers = [
        (
            f"{plain_name(layer.name)} (layer)",
            "0",
            grouped_lines(layer.neurons),
            "0",
            grouped_lines(layer.neurons),
            _best([layer.score]),
        )
        for layer in step.layers
    ]
    loss = f" Loss {_number(step.loss_before)} -> {_number(step.loss_after)}."
    table = _table(("width", "before", "after", "split", "new", "best score"), [*widths, *layers])
    return [f"{step_text(number, step)}{loss}", "", *table, ""]


def _best(scores: Iterable[float | None]) -> str:
    return _number(max((score for score in scores if score is not None), default=None))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
