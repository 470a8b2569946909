"""What AppStream finds in the image: a catalogue whose icons start something, scripts that end well."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from testinfra.host import Host

from kiln import appstream
from kiln.errors import UsageError
from tests.image.asking import text
from tests.image.tree import Tree, shown

CATALOGUE = "/etc/kiln/appstream.json"
SESSIONS = "/opt/appstream/SessionScripts/config.json"
CONTEXT = "/var/lib/kiln"

PNG = b"\x89PNG\r\n\x1a\n"
ICON_PIXELS = 256

EVENTS = ("SessionStart", "SessionTermination")


@pytest.fixture(scope="module")
def catalogue(host: Host) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(text(host, CATALOGUE))["applications"]
    return found


@pytest.fixture(scope="module")
def sessions(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text(host, SESSIONS))
    return found


def loose(tree: Tree, path: str) -> str:
    """Which of a path and the folders above it another than root may change; empty where none is."""
    parts = path.split("/")
    above = ["/".join(parts[:end]) for end in range(2, len(parts) + 1)]
    entries = [(each, tree[each]) for each in above]
    return shown(
        each for each, entry in entries if entry.uid != 0 or (entry.kind != "l" and entry.mode & 0o022)
    )


def test_catalogue_is_one_that_appstream_takes(catalogue: list[dict[str, Any]]) -> None:
    assert catalogue, "the catalogue is empty: users have nothing to click"
    try:
        appstream.applications(catalogue)
    except UsageError as error:
        pytest.fail(f"AppStream takes no such catalogue: {error.what}")


def test_icons_start_something(host: Host, tree: Tree, catalogue: list[dict[str, Any]]) -> None:
    assert catalogue, "the catalogue is empty"
    for application in catalogue:
        name, path = application["name"], application["path"]
        done = host.run("setpriv --reuid=65534 --regid=65534 --clear-groups test -x %s", path)
        assert done.rc == 0, f"{name} starts {path}, which users cannot run ({done.rc}): {done.stderr[-100:]}"
        if folder := application.get("working_directory"):
            assert tree[folder].kind == "d", f"{name} starts in {folder}, which is no folder"
        if icon := application.get("icon"):
            assert icon in tree, f"the icon of {name} is missing: {icon}"
            begins = host.file(icon).content[:24]
            assert begins[:8] == PNG, f"the icon of {name} is no PNG"
            size = struct.unpack(">II", begins[16:24])
            assert max(size) <= ICON_PIXELS, f"the icon of {name} has {size[0]} by {size[1]} pixels"


def test_what_is_read_ahead_is_there(host: Host, tree: Tree, catalogue: list[dict[str, Any]]) -> None:
    lists = [each["manifest"] for each in catalogue if each.get("manifest")]
    assert lists, "no application has a list of what is read ahead: its first start is slow"
    for path in lists:
        files = text(host, path).splitlines()
        assert files, f"{path} names no file"
        gone = [each for each in files if each not in tree or tree[each].kind != "f"]
        assert not gone, f"{path} names what is not there: {shown(gone)}"


def test_session_scripts_are_within_limits(sessions: dict[str, Any]) -> None:
    assert set(sessions) == set(EVENTS), f"events are {', '.join(sorted(sessions))}"
    for event, said in sessions.items():
        seconds, scripts = said["waitingTime"], said["executables"]
        limit = appstream.WAITING_SECONDS
        assert 0 < seconds <= limit, f"{event} waits {seconds} s, and AppStream at most {limit}"
        contexts = [each["context"] for each in scripts]
        assert set(contexts) <= {"system", "user"}, f"{event} runs as {shown(contexts)}"
        assert len(contexts) == len(set(contexts)), f"{event} has several scripts in one context"


def test_session_scripts_are_roots(tree: Tree, sessions: dict[str, Any]) -> None:
    scripts = [each["filename"] for said in sessions.values() for each in said["executables"]]
    assert scripts, "no script finds the server of a session"
    for path in (SESSIONS, *scripts):
        changed = loose(tree, path)
        assert not changed, f"root runs {path}, and others may change {changed}"
    idle = [path for path in scripts if tree[path].mode & 0o500 != 0o500]
    assert not idle, f"not to be run: {shown(idle)}"


def test_a_session_starts(host: Host, sessions: dict[str, Any]) -> None:
    """A script that does not end with 0 is a session that does not start."""
    starting = [each for each in sessions["SessionStart"]["executables"] if each["context"] == "system"]
    assert starting, "no script runs before a session"
    for script in starting:
        done = host.run("env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin %s", script["filename"])
        assert done.rc == 0, f"{script['filename']} ends with {done.rc}: no session would start"


def test_context_of_a_session_is_roots(host: Host, tree: Tree) -> None:
    assert not loose(tree, CONTEXT), f"users may say which server a session has: {loose(tree, CONTEXT)}"
    left = tree.below(CONTEXT)
    assert not left, f"an image has the context of a session already: {shown(left)}"
