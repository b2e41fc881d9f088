"""A model in a few plain words and numbers, for docstrings and model cards."""

import re

from fxgrow.spec import ArchitectureSpec, GrowthStep

_ODD = re.compile(r"[^A-Za-z0-9 _.,:+()/-]")
_LONGEST = 100


def plain_name(text: str) -> str:
    """Free text of a spec without anything that Markdown, YAML or a docstring could take for more than words."""
    return _ODD.sub("?", text)[:_LONGEST]


def grouped_lines(value: int) -> str:
    """11,689,512."""
    return f"{value:,}"


def shapes_text(spec: ArchitectureSpec) -> str:
    """``x 1x3x224x224 float32``, one per input."""
    return ", ".join(
        f"{item.name} {'x'.join(map(str, item.shape)) or 'scalar'} {item.dtype}"
        for item in spec.inputs
    )


def cost_text(spec: ArchitectureSpec) -> str:
    """Parameters and multiply-adds."""
    parameters, operations = (
        grouped_lines(spec.cost.parameters),
        grouped_lines(spec.cost.multiply_adds),
    )
    return f"{parameters} parameters, {operations} multiply-adds for {shapes_text(spec)}."


def step_text(number: int, step: GrowthStep) -> str:
    """One growth step in a sentence."""
    neurons = sum(change.split + change.new for change in step.widths)
    layers = f", {len(step.layers)} layers" if step.layers else ""
    cost = f"{grouped_lines(step.cost_before.parameters)} -> {grouped_lines(step.cost_after.parameters)} parameters"
    return f"Growth step {number} by {plain_name(step.method.name)}: {neurons} neurons{layers}, {cost}."


def heading(spec: ArchitectureSpec) -> list[str]:
    """The lines of a docstring: what the model is, where it comes from, how its weights are loaded."""
    return [
        "A network written by fxgrow, for torch alone.",
        "",
        cost_text(spec),
        *(step_text(number, step) for number, step in enumerate(spec.history, 1)),
        f"Fingerprint {spec.fingerprint}.",
        "",
        "    network = Network().eval()",
        '    network.load_state_dict(safetensors.torch.load_file("model.safetensors"))',
    ]
