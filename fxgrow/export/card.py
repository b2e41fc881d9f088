"""The model card: YAML front matter that hubs read, then a description for people."""

from collections.abc import Iterable, Sequence

from fxgrow.export.summary import cost_text, grouped_digits, plain_name, shape_text, step_text
from fxgrow.spec import CONTAINER, ArchitectureSpec, GrowthStep, LayerInsertion, WidthChange

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
    """Write the model card of a hub directory.

    Args:
        spec: the architecture. Its free text is reduced to plain words, so none of it is markup.
        license_name: the license as hubs abbreviate it, already checked.

    Returns:
        The text of ``README.md``, in ASCII.
    """
    tags = ["fxgrow", "pytorch"]
    if spec.history:
        tags.append("grown")
    front_matter = ["---", "library_name: fxgrow", f"license: {license_name}", "tags:"]
    for tag in tags:
        front_matter.append(f"- {tag}")
    front_matter.append("---")
    introduction = ["", "# A network saved by fxgrow", "", cost_text(spec), ""]
    lines = [*front_matter, *introduction, *_architecture(spec), *_history(spec)]
    return "\n".join(lines) + f"\n{_LOADING}\nFingerprint `{spec.fingerprint}`.\n"


def _architecture(spec: ArchitectureSpec) -> list[str]:
    rows = []
    for module in spec.modules:
        # Containers hold no tensors of their own worth a row; their leaves are listed.
        if module.type != CONTAINER:
            class_name = module.type.rpartition(".")[2]
            rows.append((module.name, class_name, _parameters(spec, module.name)))
    return ["## Architecture", *_table(("module", "class", "parameters"), rows), ""]


def _parameters(spec: ArchitectureSpec, module: str) -> str:
    """The parameters of a module with their shapes: ``weight 4x1x3x3, bias 4``."""
    prefix = f"{module}."
    shapes = []
    for parameter in spec.parameters:
        if parameter.name.startswith(prefix):
            shapes.append(f"{parameter.name.removeprefix(prefix)} {shape_text(parameter.shape)}")
    return ", ".join(shapes) or "-"


def _history(spec: ArchitectureSpec) -> list[str]:
    if not spec.history:
        return ["## Growth", "Never grown.", ""]
    lines = ["## Growth"]
    for number, step in enumerate(spec.history, 1):
        lines += _step(number, step)
    return lines


def _step(number: int, step: GrowthStep) -> list[str]:
    """One growth step: a sentence, then a table of the widths that grew and the layers put in."""
    rows = []
    for change in step.widths:
        rows.append(_width_row(change))
    for layer in step.layers:
        rows.append(_layer_row(layer))
    for blocks in step.blocks:
        rows += [
            (f"{plain_name(path)} (block)", "-", "-", "-", "-", "-") for path in blocks.new_paths
        ]
    loss = f" Loss {_number(step.loss_before)} -> {_number(step.loss_after)}."
    table = _table(("width", "before", "after", "split", "new", "best score"), rows)
    return [f"{step_text(number, step)}{loss}", "", *table, ""]


def _width_row(change: WidthChange) -> tuple[str, ...]:
    sizes = map(str, (change.before, change.after, change.split, change.new))
    return (plain_name(change.width), *sizes, _best(change.scores))


def _layer_row(layer: LayerInsertion) -> tuple[str, ...]:
    # An inserted layer starts without neurons, so all that it has are new.
    neurons = grouped_digits(layer.neurons)
    title = f"{plain_name(layer.name)} (layer)"
    return (title, "0", neurons, "0", neurons, _best([layer.score]))


def _best(scores: Iterable[float | None]) -> str:
    known = [score for score in scores if score is not None]
    return _number(max(known, default=None))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = []
    for cells in (head, ["---"] * len(head), *rows):
        lines.append(f"| {' | '.join(cells)} |")
    return lines
