"""``fxgrow resume``: go on with a run that was stopped."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from fxgrow.cli.arguments import AsJsonOption, DumpGraphsOption, TrustModulesOption
from fxgrow.cli.console import print_parts, print_text
from fxgrow.cli.processes import device_name, launcher, num_processes, process_group
from fxgrow.cli.run_recipe import OutputOptions, continue_along, continue_run
from fxgrow.cli.trust import Trust, trust_modules
from fxgrow.errors import FxgrowError
from fxgrow.ranks import Ranks
from fxgrow.training import followed_run, read_result, resume_command, stopped_run

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
    words = [
        launcher() + resume_command(directory),
        *(f"--trust {module}" for module in trust or ()),
    ]
    if dump_graphs is not None:
        words.append(f"--dump-graphs {shlex.quote(str(dump_graphs))}")
    go_on = " ".join(words)
    with process_group(device_name(_device_of(directory))) as is_first:
        if not is_first:
            _follow(directory, trusted, go_on)
            return
        output = OutputOptions(directory, graphs=dump_graphs, as_json=as_json)
        with stopped_run(directory, go_on=go_on) as unfinished:
            Ranks.of_process().decided(unfinished is not None)
            if unfinished is not None:
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


def _follow(directory: Path, trust: Trust, go_on: str) -> None:
    """Take part in the run, if the first process has found something to go on with."""
    with followed_run(directory, go_on=go_on) as followed:
        if Ranks.of_process().decided(decision=False):
            continue_along(followed, trust)


def _device_of(directory: Path) -> str:
    """The name of the device of a stopped run, by which its processes talk to each other."""
    if num_processes() == 1:
        return "cpu"  # nobody to talk to
    try:
        with followed_run(directory) as followed:
            return followed.notes().device
    except FxgrowError:  # there is no run: the first process says what is wrong
        return "cpu"
