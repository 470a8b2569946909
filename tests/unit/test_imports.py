"""Who may import whom (house plan, Rooms): the rooms stay apart."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kiln import paths


@dataclass(frozen=True)
class Rule:
    """What a room may not import; ``lazily`` lets a function do it, when a command is asked for."""

    room: str
    never: tuple[str, ...]
    lazily: frozenset[str] = frozenset()


RULES = (
    Rule(
        "kiln",
        ("scripts", "launch", "tests", "boto3", "botocore", "podman"),
        frozenset({"kiln/cli.py", "kiln/cli_aws.py"}),
    ),
    Rule("scripts", ("launch", "tests", "boto3", "botocore")),
    Rule("launch", ("scripts", "tests")),
)


IMPORTERS = ("import_module", "__import__")


def imported(tree: ast.AST) -> Iterator[tuple[int, str, bool]]:
    """Yield line, module and whether the import is inside a function."""
    inside = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
            "import_module",
            "__import__",
        ):
            names = [
                arg.value
                for arg in node.args[:1]
                if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
            ]
        for name in names:
            yield node.lineno, name.split(".")[0], node in inside  # type: ignore[attr-defined]


def violations(root: Path) -> list[str]:
    found = []
    for rule in RULES:
        for path in sorted((root / rule.room).rglob("*.py")):
            name = path.relative_to(root).as_posix()
            for line, module, inside in imported(ast.parse(path.read_text())):
                if module in rule.never and not (inside and name in rule.lazily):
                    found.append(f"{name}:{line} imports {module}")
    return found


def test_the_rooms_stay_apart() -> None:
    assert violations(paths.ROOT) == []


def test_the_rule_looks_at_what_is_there() -> None:
    for room in ("kiln", "scripts"):
        assert len(list((paths.ROOT / room).rglob("*.py"))) > 5


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("scripts/a.py", "import launch.ami\n", "scripts/a.py:1 imports launch"),
        ("scripts/a.py", "def f():\n    from launch import ami\n", "scripts/a.py:2 imports launch"),
        ("scripts/deep/a.py", "import boto3\n", "scripts/deep/a.py:1 imports boto3"),
        (
            "scripts/a.py",
            "import importlib\nimportlib.import_module('launch.ami')\n",
            "scripts/a.py:2 imports launch",
        ),
        ("kiln/a.py", "def f():\n    import scripts.bake\n", "kiln/a.py:2 imports scripts"),
        ("kiln/cli.py", "from scripts import bake\n", "kiln/cli.py:1 imports scripts"),
        ("launch/a.py", "import scripts\n", "launch/a.py:1 imports scripts"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, name: str, text: str, found: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text(text)
    assert violations(tmp_path) == [found]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("kiln/cli.py", "def f():\n    from scripts import bake\n"),
        ("scripts/a.py", "from kiln import config\nfrom scripts import bake\nfrom . import launch\n"),
    ],
)
def test_what_is_allowed_is_not_found(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text(text)
    assert violations(tmp_path) == []
