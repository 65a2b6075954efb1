"""The folder tree is the architecture: imports run downwards, the public names are pinned."""

from __future__ import annotations

import ast
from pathlib import Path

import otel_shed

PACKAGE = Path(otel_shed.__file__).parent

# From the top down. A module may import its own layer and those below it.
LAYERS = [
    ["__main__", "cli"],
    ["command", "distro"],
    ["substitution"],
    ["shedder"],
    ["processor", "exporter"],
    ["stock_flush", "face"],
    ["assembly"],
    ["watch"],
    ["stats", "metrics", "sampler", "ratio", "report", "hot_path"],
    ["control"],
    ["pipeline"],
    ["otlp"],
    ["config"],
    ["setting"],
    ["launcher"],
    ["arguments"],
    ["environment", "environment_variables", "sdk_environment", "fork", "instruments", "steady_clock"],
    ["log_limit"],
    ["interruption", "native", "compiled", "record", "outcome"],
]
# Offered to users' tests: beside the command, and nothing but its demo imports it.
TESTING = "testing"
RANK = {name: len(LAYERS) - number for number, layer in enumerate(LAYERS) for name in layer}
RANK[TESTING] = RANK["command"]
# Values that every layer speaks in.
WORDS = {"otel_shed.control.phase", "otel_shed.control.threshold"}


def modules() -> list[Path]:
    found = sorted(PACKAGE.rglob("*.py"))
    assert len(found) > 20
    return found


def place(path: Path) -> str:
    """The first part of a module's path below the package: a file's stem or a folder's name."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """The modules of the package that a file imports, wherever it does, but for types alone."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("otel_shed"):
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(name.name for name in node.names if name.name.startswith("otel_shed"))
    return found


def test_every_module_has_its_place() -> None:
    """Each file and folder of the package stands in a layer."""
    assert {place(path) for path in modules()} - {"__init__"} == set(RANK)


def test_imports_run_downwards() -> None:
    """No module knows what is above it."""
    upward = [
        f"{path.relative_to(PACKAGE)} -> {module}"
        for path in modules()
        if place(path) != "__init__"
        for module in imports(path)
        if module not in WORDS and RANK[module.split(".")[1] if "." in module else "command"] > RANK[place(path)]
    ]
    assert upward == []


def test_the_library_does_not_use_what_it_offers_to_tests() -> None:
    """Only the demo's collector comes from otel_shed.testing."""
    users = [
        str(path.relative_to(PACKAGE))
        for path in modules()
        if place(path) not in (TESTING, "command")
        and any(module.startswith("otel_shed.testing") for module in imports(path))
    ]
    assert users == []


def test_every_module_says_what_it_owns() -> None:
    """Each module has a docstring; an empty __init__ has nothing to say."""
    silent = [
        path.name
        for path in modules()
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_the_public_names_are_pinned() -> None:
    """What is offered is what the contract names, and each name can be had."""
    assert otel_shed.__all__ == sorted(otel_shed._HOMES)
    assert dir(otel_shed) == otel_shed.__all__
    for name in otel_shed.__all__:
        assert getattr(otel_shed, name).__name__ == name
