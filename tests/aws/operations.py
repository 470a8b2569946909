"""Which operations of AWS the commands of ``launch`` may send, read from the code that they reach."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import botocore.session
from botocore import xform_name

from kiln import paths

LAUNCH = paths.ROOT / "launch"

COMMANDS: dict[str, tuple[str, ...]] = {
    "operator": (
        "publish",
        "promote",
        "revoke",
        "channel",
        "apply",
        "rollback",
        "status",
        "prune",
        "sweep",
        "cost",
    ),
    "builder": ("image_builder", "prove_ami"),
}
"""Role → modules of its commands (kiln/cli_aws.py)."""

OPENERS = ("listed", "ask")
"""Functions of launch/appstream.py that take the name of an operation."""


@functools.cache
def operations(service: str) -> dict[str, str]:
    """Return the operations of a service: as boto3 names them → as its model does."""
    model = botocore.session.get_session().get_service_model(service)
    return {xform_name(name): name for name in model.operation_names}


def reached(roots: tuple[str, ...]) -> set[str]:
    """Return the modules of ``launch`` that modules import, themselves and all that those import."""
    found: set[str] = set()
    todo = list(roots)
    while todo:
        name = todo.pop()
        if name in found or not (LAUNCH / f"{name}.py").is_file():
            continue
        found.add(name)
        todo += _imports(ast.parse((LAUNCH / f"{name}.py").read_text()))
    return found


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "launch":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("launch."):
            yield str(node.module).split(".")[1]


def sent(path: Path) -> set[tuple[str, str]]:
    """Return service and operation of what a module may send.

    Of every service that it has a client of: each operation whose name stands in it, as an attribute or as a
    text. That is more than it sends where two services name an operation alike, never less.
    """
    tree = ast.parse(path.read_text())
    constants = {
        target.id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    services: set[str] = set()
    words: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            words.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            words.add(node.value)
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in OPENERS:
                services.add("appstream")
            if name in ("client", "requests", "Request") and node.args:
                first = node.args[0]
                value = (
                    constants.get(first.id) if isinstance(first, ast.Name) else getattr(first, "value", "")
                )
                services.add(str(value or ""))
    services &= set(botocore.session.get_session().get_available_services())
    found = set()
    for service in services:
        known = operations(service)
        found |= {(service, known[word]) for word in words if word in known}
        found |= {(service, word) for word in words if word in known.values()}
    return found


def of_role(role: str) -> dict[tuple[str, str], set[str]]:
    """Return what the commands of a role may send: service and operation → the modules that do."""
    found: dict[tuple[str, str], set[str]] = {}
    for name in reached(COMMANDS[role]):
        for each in sent(LAUNCH / f"{name}.py"):
            found.setdefault(each, set()).add(name)
    return found
