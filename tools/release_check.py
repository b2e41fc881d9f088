"""Builds fxgrow's sdist and wheel, and tries the wheel as a user would: elsewhere, by what README says.

usage: python tools/release_check.py [--out dist] [--dependencies SITE_PACKAGES]

What it does, in this order; the first thing that fails ends it:

1. `python -m build`: the sdist, and the wheel out of the sdist, so that a file which the sdist lacks is missed.
2. The wheel holds every file of the package that git knows, and nothing beside it; `twine check --strict` reads both.
3. The wheel is installed into an empty environment. Its dependencies (5 GB with torch) are not installed again: the
   environment looks for them where those of this program lie, and pip is asked whether they fit.
4. From an empty directory: `fxgrow --help`, the Python of README, and one example.

Needs what `pip install 'fxgrow[release]'` installs; `make release-check` does that.
"""

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLE = "plain_loop"


def readme_blocks(text: str) -> list[str]:
    """The Python of a Markdown text, block by block."""
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def package_files() -> set[str]:
    """The files of the package that git knows, by their path in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "fxgrow"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(listed.stdout.split("\0")) - {""}


def differences(wheel: Path, expected: set[str]) -> list[str]:
    """What a wheel lacks or has too much, one sentence each."""
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    lacking = [f"{wheel.name} lacks {name}" for name in sorted(expected - found)]
    return lacking + [f"{wheel.name} should not hold {name}" for name in sorted(found - expected)]


def environment(folder: Path, dependencies: Path) -> Path:
    """Make an empty environment that looks for dependencies in another directory; its Python."""
    venv.create(folder, with_pip=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # A plain line of a .pth file adds a directory at the end, and reads no .pth files in it: an
    # editable fxgrow there is not found before, or instead of, the wheel.
    own = folder / "lib" / version / "site-packages" / "dependencies.pth"
    own.write_text(f"{dependencies}\n", encoding="utf-8")
    return folder / "bin" / "python"


def finished(command: Sequence[str | Path], cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a program without the setting of this one's shell that leads to the source tree."""
    print("$", *command, flush=True)
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        command, cwd=cwd, env=variables, capture_output=True, text=True, check=False
    )


def run(command: Sequence[str | Path], cwd: Path = ROOT) -> str:
    """Run a program, and end this one if it fails; what it printed."""
    result = finished(command, cwd)
    if result.returncode:
        sys.exit(f"{result.stdout}\n{result.stderr}\nfailed with exit code {result.returncode}")
    return result.stdout


def unmet(checked: str) -> list[str]:
    """What `pip check` says of fxgrow itself; other packages there are none of its business."""
    return [line for line in checked.splitlines() if line.startswith("fxgrow ")]


def build(out: Path) -> Path:
    """Build both files into an empty directory; the wheel."""
    for old in out.glob("fxgrow-*"):
        old.unlink()
    run([sys.executable, "-m", "build", "--outdir", out])
    (wheel,), (sdist,) = out.glob("fxgrow-*.whl"), out.glob("fxgrow-*.tar.gz")
    run([sys.executable, "-m", "twine", "check", "--strict", wheel, sdist])
    if found := differences(wheel, package_files()):
        sys.exit("\n".join(found))
    return wheel


def try_out(wheel: Path, folder: Path, dependencies: Path) -> None:
    """Install the wheel into an environment in ``folder``, and use it from another directory there."""
    python, elsewhere = environment(folder / "environment", dependencies), folder / "elsewhere"
    elsewhere.mkdir()
    run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", wheel])
    if found := unmet(finished([python, "-m", "pip", "check"], elsewhere).stdout):
        sys.exit("\n".join(found))
    where = run([python, "-c", "import fxgrow.api; print(fxgrow.__file__)"], elsewhere)
    if not Path(where.strip()).is_relative_to(folder):
        sys.exit(f"the fxgrow that was tried is that of {where.strip()}, not the wheel")
    command = python.with_name("fxgrow")
    print(run([command, "--help"], elsewhere))
    for number, block in enumerate(readme_blocks((ROOT / "README.md").read_text(encoding="utf-8"))):
        path = elsewhere / f"readme_{number}.py"
        path.write_text(block, encoding="utf-8")
        print(run([python, path.name], elsewhere))
    example = elsewhere / f"{EXAMPLE}.py"
    example.write_bytes((ROOT / "examples" / example.name).read_bytes())
    print(run([python, example.name], elsewhere))


def main() -> None:
    """Build and try."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where sdist and wheel go")
    parser.add_argument(
        "--dependencies", type=Path, default=sysconfig.get_path("purelib"), help="where they lie"
    )
    arguments = parser.parse_args()
    out: Path = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    wheel = build(out)
    with tempfile.TemporaryDirectory() as folder:
        try_out(wheel, Path(folder).resolve(), arguments.dependencies.absolute())
    print(f"{wheel.name} installs, and does what README says")


if __name__ == "__main__":
    main()
