"""One case a row of behaviours that other systems have: each names the tests or benchmarks that show it.

``python conformance/parity/test_parity.py`` runs those tests and prints the table.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
ROWS: dict[str, dict[str, str | list[str]]] = json.loads((Path(__file__).parent / "rows.json").read_text())


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
    """The table is not empty, and each row says what it is and what shows it."""
    assert len(ROWS) > 30
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
    outcomes = [line.split(" ", 1) for line in result.stdout.splitlines() if "::" in line]
    failed = [node for word, node in (line for line in outcomes if len(line) == 2) if word in ("FAILED", "ERROR")]
    passed = [node for word, node in (line for line in outcomes if len(line) == 2) if word == "PASSED"]
    missing = 0
    for name, row in ROWS.items():
        tests = [test for test in row["shown_by"] if not test.startswith("benchmarks/")]
        if not tests:
            verdict = "benchmark"
        elif any(node.startswith(test) for test in tests for node in failed):
            verdict = "FAILS"
        elif all(any(node.startswith(test) for node in passed) for test in tests):
            verdict = "holds"
        else:
            verdict = "not run"
        missing += verdict in ("FAILS", "not run")
        print(f"{name:<4}{verdict:<10} {row['behaviour']}")
    return 1 if missing or result.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
