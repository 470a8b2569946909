"""Every template of both roles rendered and parsed, with values that would break a careless one."""

from __future__ import annotations

import configparser
import json
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tree_sitter
import tree_sitter_powershell

from scripts import coverage
from tests.slicer import qt
from tests.windows import rehearsal
from tests.windows.archives import offered
from tests.windows.machine import Machine
from tests.windows.rehearsal import Rehearsal
from tests.windows.rendering import render

ROLES = ("appstream", "slicer")
EACH = [
    (role, path.relative_to(coverage.roles() / role / "templates").as_posix())
    for role in ROLES
    for path in sorted((coverage.roles() / role / "templates").rglob("*.j2"))
]
SCRIPTS = sorted(path for role in ROLES for path in (coverage.roles() / role / "files").rglob("*.ps1"))

HOSTILE: dict[str, Any] = {
    "appstream_servers": {"it's a `fleet`$": "https://a.example.org/'\"$(x)", "plain": "http://b"},
    "slicer_settings": {"Kiln/semicolon": 'a;b,"c"\\d', "Kiln/a b": "ä"},
}

POWERSHELL = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))


def errors(node: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    if node.is_error or node.is_missing:
        yield node
    for child in node.children:
        yield from errors(child)


def powershell(text: str) -> None:
    found = list(errors(POWERSHELL.parse(text.encode()).root_node))
    assert found == [], f"no PowerShell at line {found[0].start_point[0] + 1}:\n{text}"


def ini(text: str) -> None:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.read_string(text)
    assert parser.sections()


def shell(text: str) -> None:
    done = subprocess.run(["sh", "-n"], input=text, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def xml(text: str) -> None:
    ElementTree.fromstring(text)


PARSERS: dict[str, Callable[[str], None]] = {
    ".ps1": powershell,
    ".ini": ini,
    ".desktop": ini,
    ".sh": shell,
    ".xml": xml,
}
"""By the ending before ``.j2``."""


def parser(template: str) -> Callable[[str], None]:
    return PARSERS[Path(template.removesuffix(".j2")).suffix]


@pytest.mark.parametrize(("role", "template"), EACH, ids=lambda each: str(each))
@pytest.mark.parametrize("given", [{}, HOSTILE], ids=["usual", "hostile"])
def test_a_template_parses(role: str, template: str, given: dict[str, Any]) -> None:
    for system in ("Windows", "Debian"):
        parser(template)(render(role, template, system, **given))  # type: ignore[arg-type]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_parses(path: Path) -> None:
    powershell(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("ending", "broken"),
    [
        (".ps1", "if ($a { 'b' }"),
        (".ps1", "$a = 'it's'"),
        (".ini", "a = 1\n[b]\n"),
        (".sh", "if true; then"),
        (".xml", "<a><b></a>"),
    ],
    ids=["brace", "quote", "section", "fi", "tag"],
)
def test_what_is_broken_does_not_parse(ending: str, broken: str) -> None:
    with pytest.raises((AssertionError, configparser.Error, ElementTree.ParseError)):
        PARSERS[ending](broken)


def test_a_server_stands_in_the_script_as_it_was_given() -> None:
    text = render("appstream", "windows/kiln-start.ps1.j2", "Windows", **HOSTILE)
    assert "'it''s a `fleet`$' = 'https://a.example.org/''\"$(x)'" in text
    tree = POWERSHELL.parse(text.encode())
    # In single quotes nothing is looked up: each is one literal, and none a variable or a command.
    literals = {
        node.text.decode() for node in walk(tree.root_node) if node.type == "verbatim_string_characters"
    }
    assert "'https://a.example.org/''\"$(x)'" in literals


def walk(node: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    yield node
    for child in node.children:
        yield from walk(child)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    """A rehearsal with hostile values."""
    machine = Machine(tmp_path_factory.mktemp("hostile"))
    return rehearsal.run(machine.folder, {**offered(machine), **HOSTILE})


JSON = (
    "C:\\AppStream\\SessionScripts\\config.json",
    "C:\\Program Files\\Slicer\\kiln\\installed.json",
    "C:\\Program Files\\Slicer\\kiln\\server.json",
    "C:\\ProgramData\\kiln\\appstream.json",
    "C:\\ProgramData\\kiln\\slicer.json",
)


@pytest.mark.slow
def test_what_lies_on_the_host_is_json(plain: Rehearsal) -> None:
    assert plain.code == 0, plain.output
    there = {name for name in plain.machine.state["files"] if name.endswith(".json")}
    assert {name.lower() for name in JSON} <= there
    for name in there:
        content = plain.machine.read(name)
        assert content is not None
        # AppStream and Slicer read plain UTF-8: a mark of the encoding would be no JSON to them.
        assert not content.startswith(b"\xef\xbb\xbf")
        json.loads(content)


@pytest.mark.slow
def test_the_settings_on_the_host_are_read_by_qt(plain: Rehearsal, tmp_path: Path) -> None:
    settings = plain.machine.read("C:\\Program Files\\Slicer\\slicer.org\\Slicer.ini")
    assert settings is not None
    path = tmp_path / "Slicer.ini"
    path.write_bytes(settings)
    found = qt.read(path)
    assert found["MONAILabel/serverUrl"] == "http://monai-label.kiln.internal"
    assert found["ApplicationUpdate/AutoUpdateCheck"] == "false"
    assert {name: found[name] for name in HOSTILE["slicer_settings"]} == HOSTILE["slicer_settings"]


@pytest.mark.slow
def test_what_lies_on_the_host_is_what_was_rendered(plain: Rehearsal) -> None:
    sent = plain.machine.read("C:\\AppStream\\SessionScripts\\kiln-start.ps1")
    assert sent is not None
    powershell(sent.decode())
    assert sent.count(b"\r\n") == sent.count(b"\n"), "a script of Windows has Windows' ends of lines"
    config = json.loads(plain.machine.read("C:\\AppStream\\SessionScripts\\config.json") or b"")
    assert config["SessionStart"]["waitingTime"] <= 60
    script = config["SessionStart"]["executables"][0]
    assert "C:\\AppStream\\SessionScripts\\kiln-start.ps1" in script["arguments"]
