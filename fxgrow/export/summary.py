"""A model in a few plain words and numbers, for docstrings and model cards."""

import re
from collections.abc import Iterable

from fxgrow.spec import ArchitectureSpec, GrowthStep

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9 _.,:+()/-]")
_MAX_LENGTH = 100


def plain_name(text: str) -> str:
    """Free text of a spec without anything that Markdown, YAML or a docstring reads as markup.

    >>> plain_name("a`b")
    'a?b'
    """
    return _NOT_PLAIN.sub("?", text)[:_MAX_LENGTH]


def grouped_digits(value: int) -> str:
    """A count with its digits in groups: 11,689,512."""
    return f"{value:,}"


def shape_text(shape: Iterable[int]) -> str:
    """A shape as ``1x3x224x224``; ``scalar`` for one without axes."""
    return "x".join(map(str, shape)) or "scalar"


def shapes_text(spec: ArchitectureSpec) -> str:
    """The inputs of a model: ``x 1x3x224x224 float32``, separated by commas."""
    inputs = []
    for item in spec.inputs:
        inputs.append(f"{item.name} {shape_text(item.shape)} {item.dtype}")
    return ", ".join(inputs)


def cost_text(spec: ArchitectureSpec) -> str:
    """Parameters and multiply-adds of a model, in a sentence."""
    parameters = grouped_digits(spec.cost.parameters)
    operations = grouped_digits(spec.cost.multiply_adds)
    return f"{parameters} parameters, {operations} multiply-adds for {shapes_text(spec)}."


def step_text(number: int, step: GrowthStep) -> str:
    """One growth step in a sentence.

    Args:
        number: which step of the history it is, from 1.
        step: the step.

    Returns:
        The method, how many neurons and layers it added, and the parameters before and after.
    """
    neurons = sum(change.split + change.new for change in step.widths)
    layers = f", {len(step.layers)} layers" if step.layers else ""
    layers += f", {step.num_blocks} blocks" if step.blocks else ""
    before = grouped_digits(step.cost_before.parameters)
    after = grouped_digits(step.cost_after.parameters)
    method = plain_name(step.method.name)
    return (
        f"Growth step {number} by {method}: {neurons} neurons{layers}, "
        f"{before} -> {after} parameters."
    )


def heading(spec: ArchitectureSpec) -> list[str]:
    """The lines of a docstring: what the model is, how it was grown, how its weights are loaded."""
    steps = [step_text(number, step) for number, step in enumerate(spec.history, 1)]
    return [
        "A network written by fxgrow, for torch alone.",
        "",
        cost_text(spec),
        *steps,
        f"Fingerprint {spec.fingerprint}.",
        "",
        "    network = Network().eval()",
        '    network.load_state_dict(safetensors.torch.load_file("model.safetensors"))',
    ]
