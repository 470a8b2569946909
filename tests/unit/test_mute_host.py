"""What a check cannot find out is a failure: each runs on a host whose every command ends with 127."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import testinfra.backend.base
from testinfra.host import Host

from scripts import checks
from tests.image import asking
from tests.image.tree import Entry, Tree

FILES = sorted((checks.CHECKS / "static").glob("test_*.py"))
MODULES = [importlib.import_module(f"tests.image.static.{path.stem}") for path in FILES]
FOLDER = Entry("d", 0o755, 0, 0, 4096)
FILE = Entry("f", 0o644, 0, 0, 100)
TREE = Tree({"/etc": FOLDER, "/etc/profile": FILE, "/usr/local": FOLDER, "/root": FOLDER})
"""A listing with nothing to refuse. One that could not be made fails where it is made."""

ANSWERS_TO_TEST = {"nothing is known": 127, "no file is there": 1}
"""What ``test -e`` and its like end with: testinfra asks by these whether there is a file."""

NOTHING_TO_ASK = {
    "test_agents::test_server_rotates_its_log": "this listing has no server",
    "test_efs_client::test_without_settings_nothing_runs": "this listing has no unit that it would read",
    "test_seal::test_no_resolver_of_the_build_machine": "this listing has no resolver's file",
}
"""Checks that may pass with this listing → why."""

CODE_IS_NOT_READ = {
    "test_environment_is_the_locked_one": "compares with what must be there",
    "test_every_file_of_the_environment_is_there": "refuses few lines",
    "test_cuda_is_found_by_the_loader": "refuses no line",
    "test_sources_have_the_drivers_components": "refuses no line",
}
"""Functions that call a command without a look at its exit code → why they may."""


class Mute(testinfra.backend.base.BaseBackend):  # type: ignore[misc]
    """A host that cannot be asked."""

    NAME = "mute"

    def __init__(self, answer_to_test: int) -> None:
        super().__init__("mute")
        self.answer_to_test = answer_to_test

    def run(self, command: str, *args: str, **_: Any) -> Any:
        code = self.answer_to_test if command.startswith("test ") else 127
        return self.result(code, self.encode(self.get_command(command, *args)), b"", b"")


def cases(check: Callable[..., None]) -> Iterator[dict[str, Any]]:
    """The arguments that pytest would give a parametrised check."""
    marks = [mark for mark in getattr(check, "pytestmark", []) if mark.name == "parametrize"]
    if not marks:
        yield {}
    for mark in marks:
        yield from ({mark.args[0]: value} for value in mark.args[1])


def call(function: Callable[..., Any], module: ModuleType, given: dict[str, Any]) -> Any:
    """Call a check or a fixture with the fixtures of its module that it asks for."""
    arguments = {
        name: given[name] if name in given else call(getattr(module, name).__wrapped__, module, given)
        for name in inspect.signature(function).parameters
    }
    return function(**arguments)


def asks(function: Callable[..., Any], module: ModuleType) -> bool:
    """Whether a check asks the host, by itself or by a fixture of its module."""
    names = inspect.signature(function).parameters
    return "host" in names or any(
        asks(getattr(module, name).__wrapped__, module) for name in names if hasattr(module, name)
    )


CHECKS = [
    (f"{module.__name__.rpartition('.')[2]}::{name}", check, module)
    for module in MODULES
    for name, check in inspect.getmembers(module, inspect.isfunction)
    if name.startswith("test_") and asks(check, module)
]


def test_every_check_that_may_pass_exists() -> None:
    assert NOTHING_TO_ASK.keys() <= {name for name, _, _ in CHECKS}


@pytest.mark.parametrize("answer", ANSWERS_TO_TEST)
@pytest.mark.parametrize(("name", "check", "module"), CHECKS, ids=[name for name, _, _ in CHECKS])
def test_check_refuses_what_it_cannot_find_out(
    name: str, check: Callable[..., None], module: ModuleType, answer: str
) -> None:
    given = {"host": Host(Mute(ANSWERS_TO_TEST[answer])), "tree": TREE}
    for case in cases(check):
        if name in NOTHING_TO_ASK:
            call(check, module, given | case)
            continue
        with pytest.raises((AssertionError, RuntimeError, NotImplementedError)):
            call(check, module, given | case)


def blind(function: ast.FunctionDef) -> bool:
    """Whether it runs a command on the host and does not look at its exit code."""
    nodes = list(ast.walk(function))
    calls = {
        id(node): node
        for node in nodes
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "host.run"
    }
    kept = {
        target.id: id(node.value)
        for node in nodes
        if isinstance(node, ast.Assign) and id(node.value) in calls
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    read = {
        kept.get(node.value.id)
        for node in nodes
        if isinstance(node, ast.Attribute) and node.attr == "rc" and isinstance(node.value, ast.Name)
    }
    return bool(calls.keys() - read)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_exit_codes_are_read(path: Path) -> None:
    """Also where a fixture fails before: the host above never gets as far."""
    functions = [part for part in ast.parse(path.read_text()).body if isinstance(part, ast.FunctionDef)]
    assert [one.name for one in functions if blind(one) and one.name not in CODE_IS_NOT_READ] == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("done = host.run('x'); assert done.rc == 0", False),
        ("said(host, 'x')", False),
        ("done = host.run('x'); assert done.stdout", True),
        ("done = host.run('x').stdout", True),
        ("a = host.run('x'); assert not a.rc; b = host.run('y')", True),
    ],
)
def test_an_exit_code_that_is_not_read_is_seen(text: str, wanted: bool) -> None:
    (function,) = ast.parse(f"def check(host): {text}").body
    assert isinstance(function, ast.FunctionDef)
    assert blind(function) is wanted


def test_a_root_that_cannot_be_listed_is_refused() -> None:
    with pytest.raises(AssertionError, match="cannot be listed"):
        Tree.scan(Host(Mute(127)))


@pytest.mark.parametrize(
    "ask",
    [
        lambda host: asking.said(host, "dpkg --verify"),
        lambda host: asking.said(host, "grep x /etc/profile", accepted=(0, 1)),
        lambda host: asking.lines(host, TREE, "/etc/profile"),
        lambda host: asking.naming(host, TREE, "word", "/etc"),
        asking.owned,
    ],
)
def test_what_a_command_does_not_say_is_told(ask: Callable[[Host], object]) -> None:
    with pytest.raises(AssertionError, match=r"could not determine: .* ended with 127: no word why"):
        ask(Host(Mute(127)))


def test_a_pattern_that_nothing_matches_is_no_answer() -> None:
    for ask in (asking.lines, lambda host, tree, pattern: asking.naming(host, tree, "word", pattern)):
        with pytest.raises(AssertionError, match="nothing matches /etc/nowhere"):
            ask(Host(Mute(127)), TREE, "/etc/nowhere")
