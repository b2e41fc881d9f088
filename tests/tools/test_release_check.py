"""The parts of the release check that need no build; `make release-check` runs the whole."""

import zipfile
from pathlib import Path

import pytest

from tools import release_check

README = Path(release_check.ROOT, "README.md").read_text(encoding="utf-8")


def test_the_blocks_of_readme_are_its_python() -> None:
    blocks = release_check.readme_blocks(README)
    assert len(blocks) == README.count("```python\n") > 1
    for block in blocks:
        compile(block, "README.md", "exec")


def test_a_wheel_is_compared_file_by_file(tmp_path: Path) -> None:
    wheel = tmp_path / "fxgrow-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("fxgrow/api.py", "tests/test_api.py", "fxgrow-1.dist-info/METADATA"):
            archive.writestr(name, "")
    expected = {"fxgrow/api.py", "fxgrow/py.typed"}
    assert release_check.differences(wheel, expected) == [
        f"{wheel.name} lacks fxgrow/py.typed",
        f"{wheel.name} should not hold tests/test_api.py",
    ]


def test_the_files_of_the_package_are_those_in_git() -> None:
    if not (release_check.ROOT / ".git").exists():
        pytest.skip("not a checkout")
    files = release_check.package_files()
    assert {"fxgrow/py.typed", "fxgrow/api.py", "fxgrow/report/page/page.html"} <= files
    assert all(name.startswith("fxgrow/") for name in files)


def test_only_what_fxgrow_misses_counts() -> None:
    said = "other 1 requires x, which is not installed.\nfxgrow 1 has requirement torch>=9.\n"
    assert release_check.unmet(said) == ["fxgrow 1 has requirement torch>=9."]


def test_a_program_that_fails_ends_the_check(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="failed with exit code 3"):
        release_check.run(["sh", "-c", "exit 3"], tmp_path)


def test_programs_do_not_see_the_source_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(release_check.ROOT))
    assert release_check.run(["sh", "-c", "echo $PYTHONPATH"], tmp_path).strip() == ""
