"""One case a row of behaviours that other systems have: each names the tests or benchmarks that show it.

``python conformance/parity/test_parity.py`` runs those tests and prints the table: what holds, what fails, and what is
missing here.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
ROWS: dict[str, dict[str, str | list[str]]] = json.loads((Path(__file__).parent / "rows.json").read_text())
# The rows of the table, by the letter of the system, as far as they are within what is being built.
WANTED = [
    f"{system}{number}"
    for system, numbers in (
        ("L", range(1, 18)),
        ("H", range(1, 4)),
        ("R", range(1, 9)),
        ("D", range(1, 13)),
        ("B", (*range(1, 8), 11, 12, 13)),
    )
    for number in numbers
]
MISSING: set[str] = set()


def names_in(path: Path) -> set[str]:
    """What a test file defines at its top: functions, classes, and names that stand for test cases."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return names


def test_there_are_rows() -> None:
    """Each row of the table says what it is and what shows it, but for those that are known to be missing."""
    assert [name for name in WANTED if name not in MISSING] == list(ROWS)
    assert all(row["behaviour"] and row["shown_by"] for row in ROWS.values())


@pytest.mark.parametrize("row", ROWS)
def test_row(row: str) -> None:
    """What a row names exists: the tests themselves run with the suite."""
    for shown_by in ROWS[row]["shown_by"]:
        file, _, name = shown_by.partition("::")
        assert (ROOT / file).is_file(), shown_by
        assert not name or name in names_in(ROOT / file), shown_by


def main() -> int:
    """Run what the rows name and print a line a row; 1 if one does not hold."""
    wanted = sorted({test for row in ROWS.values() for test in row["shown_by"] if not test.startswith("benchmarks/")})
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "--no-header", "-p", "no:cacheprovider", *wanted],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    outcomes = [line.partition(" - ")[0].partition(" ") for line in result.stdout.splitlines() if "::" in line]
    failed = [node for word, _, node in outcomes if word in ("FAILED", "ERROR")]
    passed = [node for word, _, node in outcomes if word == "PASSED"]
    verdicts = {name: verdict(ROWS.get(name), passed, failed) for name in WANTED}
    for name, said in verdicts.items():
        print(f"{name:<4}{said:<10} {ROWS[name]['behaviour'] if name in ROWS else ''}".rstrip())
    return 1 if result.returncode or set(verdicts.values()) - {HOLDS, MISSES} else 0


HOLDS, FAILS, NOT_RUN, MISSES = "holds", "FAILS", "not run", "missing"


def verdict(row: dict[str, str | list[str]] | None, passed: Sequence[str], failed: Sequence[str]) -> str:
    """What a row's tests came to."""
    if row is None:
        return MISSES
    tests = [test for test in row["shown_by"] if not test.startswith("benchmarks/")]
    if any(is_of(node, test) for test in tests for node in failed):
        return FAILS
    return HOLDS if all(any(is_of(node, test) for node in passed) for test in tests) else NOT_RUN


def is_of(node: str, test: str) -> bool:
    """Whether a test that ran is the one that is named, one of its parameters, or in the file or class that is."""
    return node == test or node.startswith((f"{test}[", f"{test}::"))


if __name__ == "__main__":
    sys.exit(main())
