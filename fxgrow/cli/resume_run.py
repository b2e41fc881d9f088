"""``fxgrow resume``: go on with a run that was stopped."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from fxgrow.cli.arguments import AsJsonOption, DumpGraphsOption, TrustModulesOption
from fxgrow.cli.console import print_parts, print_text
from fxgrow.cli.run_recipe import OutputOptions, continue_run
from fxgrow.cli.trust import trust_modules
from fxgrow.training import read_result, resume_command, stopped_run

ResumedDirectory = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="the --out of the run that was stopped", show_default=False),
]


def resume_run(
    directory: ResumedDirectory,
    trust: TrustModulesOption = None,
    dump_graphs: DumpGraphsOption = None,
    as_json: AsJsonOption = False,
) -> None:
    """Go on with the run to DIR that was stopped, from its last checkpoint.

    On the CPU of the same machine it ends with the weights that it would have had without a stop,
    bit for bit. Its recipe is read from a file, so --trust names the modules that it may call,
    and --dump-graphs says again where graphs go, if it was started with that.
    """
    trusted = trust_modules(trust or ())
    words = [resume_command(directory), *(f"--trust {module}" for module in trust or ())]
    if dump_graphs is not None:
        words.append(f"--dump-graphs {shlex.quote(str(dump_graphs))}")
    with stopped_run(directory, go_on=" ".join(words)) as unfinished:
        if unfinished is not None:
            output = OutputOptions(directory, graphs=dump_graphs, as_json=as_json)
            continue_run(unfinished, output, trusted)
            return
    # Nothing is left to do, and the lock is given back.
    result = read_result(directory)
    if as_json:
        print_text(result.model_dump_json(indent=2))
        return
    epochs, steps = result.trained_epochs, len(result.steps)
    sentence = (
        f"the run in {directory} is finished ({epochs} epochs, {steps} growth steps), so there is "
        f"nothing to go on with; to train it on: fxgrow grow {directory} --out ANOTHER"
    )
    print_parts(Text(sentence))
