"""The repository keeps its own promises: documents name tests that exist, nothing of one machine is committed."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEST_NAME = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def tracked() -> list[Path]:
    """Files git tracks, as they are in the working tree."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("document", ["guarantee.md", "failure-modes.md"])
def test_every_test_that_a_document_names_exists(document: str) -> None:
    named = TEST_NAME.findall((ROOT / "docs" / document).read_text())
    assert named, f"docs/{document} names no test"
    missing = [f"{path}::{name}" for path, name in named if not (ROOT / path).is_file() or f"def {name}(" not in (ROOT / path).read_text()]
    assert not missing, f"docs/{document} names tests that do not exist: {missing}"


def test_every_row_of_the_failure_modes_names_its_test() -> None:
    rows = [line for line in (ROOT / "docs" / "failure-modes.md").read_text().splitlines() if re.match(r"\| \d", line)]
    assert rows
    bare = [row for row in rows if not TEST_NAME.search(row) and "not yet" not in row]
    assert not bare, f"rows without a test: {bare}"


def test_no_path_of_one_machine_is_committed() -> None:
    pattern = re.compile(r"(?<![\w./-])/(?:work|root|home/\w+)/|bash_jobs|\.r-seed-")
    guilty = [
        f"{path.relative_to(ROOT)}: {found.group()}"
        for path in tracked()
        if path.suffix in {".py", ".md", ".yaml", ".yml", ".toml", ".sh", ".mod", ".tpl", ".json"} and path != Path(__file__)
        for found in [pattern.search(path.read_text(errors="replace"))]
        if found
    ]
    assert not guilty


def test_no_module_is_named_for_nothing() -> None:
    guilty = [
        str(p.relative_to(ROOT)) for p in tracked() if re.search(r"(^|/)(utils?|helpers?|common|misc)(\.py|/)", str(p.relative_to(ROOT)))
    ]
    assert not guilty


def test_the_readme_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text
