"""Training steps by ``torch.compile``: compiled once, and once more after every growth step."""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from fxgrow.documents import Settings, limits
from fxgrow.errors import TrainingError
from fxgrow.kernel_guard import require_compilable_gradients
from fxgrow.randomness import kept_random_states


class Compilation(Settings):
    """The passes of training steps are compiled; growth steps and evaluations run as ever.

    Args:
        backend: of ``torch.compile``.

    Example:
        >>> fxgrow.training.RunSettings(compile=Compilation())
    """

    backend: str = Field(default="inductor", min_length=1, max_length=limits.NAME)


class CompiledModel(nn.Module):
    """A model whose passes are compiled at the first one.

    Args:
        model: whose weights it shares.
        backend: of ``torch.compile``.
    """

    def __init__(self, model: nn.Module, backend: str) -> None:
        super().__init__()
        # Forgets what was compiled before: after eight models of one class torch would give up,
        # and run the next one uncompiled without a word.
        torch.compiler.reset()
        self.compiled: Any = torch.compile(model, backend=backend)

    def forward(self, images: Any) -> Any:
        """Run the model."""
        if isinstance(images, Tensor):
            # Any number of images, so that a smaller last batch is not compiled again, and a run
            # that is resumed computes by the same code.
            torch._dynamo.maybe_mark_dynamic(images, 0)
        try:
            return self.compiled(images)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = " ".join(str(error).split())[: limits.MESSAGE]
            raise TrainingError(
                "not-compilable",
                f"torch.compile cannot compile a training step ({reason}); choose another backend "
                "(aot_eager), or leave compile out",
            ) from error


def training_model(model: nn.Module, compilation: Compilation | None) -> nn.Module:
    """What training steps run: the model itself, or compiled, with the same weights."""
    return model if compilation is None else CompiledModel(model, compilation.backend)


def require_compilation(compilation: Compilation | None, model: nn.Module, images: Tensor) -> None:
    """Check what can be told of a compilation before it is tried.

    Args:
        compilation: of the passes of training steps.
        model: what is trained.
        images: two images.

    Raises:
        TrainingError: ``bad-setting``: there is no such backend.
        ModelError: ``unsafe-convolution``: on this processor compiled code might write a gradient
            beyond its memory.
    """
    if compilation is None:
        return
    known = torch.compiler.list_backends(exclude_tags=())
    if compilation.backend not in known:
        raise TrainingError(
            "bad-setting",
            f"torch.compile has no backend {compilation.backend!r}; there are {', '.join(known)}",
        )
    with kept_random_states():
        require_compilable_gradients(model, images)
