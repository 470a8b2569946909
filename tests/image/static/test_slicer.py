"""3D Slicer as users get it: of one build with its extension, pointed at the server, changed by nobody."""

from __future__ import annotations

import configparser
import json
import re
from typing import Any

import pytest
from testinfra.host import Host

from tests.image.asking import said, text
from tests.image.tree import Tree, shown

FACTS = "/etc/kiln/slicer.json"
WRAPPER = "kiln/slicer"
START_UP = "kiln/slicerrc.py"

MODULE = "MONAILabel"
SERVER = "MONAILabel/serverUrl"
HISTORY = "MONAILabel/serverUrlHistory"

UPDATES = ("ApplicationUpdate/AutoUpdateCheck", "Extensions/AutoUpdateCheck", "Extensions/AutoUpdateInstall")
"""Settings by which Slicer and its extensions look for newer ones; what is not set is on."""

SESSION = "https://session.example.org:8443"

CASES = {
    "nothing": (lambda variable: {}, None),
    "session": (lambda variable: {variable: SESSION}, SESSION),
    "nonsense": (lambda variable: {variable: "ftp://x", "APPSTREAM_SESSION_CONTEXT": "{"}, None),
}
"""What a session says → its environment, and the server that comes of it; None is the image's own."""

ASKED = f"""
import json, slicer
manager, settings = slicer.app.extensionsManagerModel(), slicer.app.settings()
print("kiln" + json.dumps({{
    "version": str(slicer.app.applicationVersion), "revision": str(slicer.app.revision),
    "server": settings.value("{SERVER}"), "history": settings.value("{HISTORY}"),
    "installed": bool(manager.isExtensionInstalled("{MODULE}")),
    "paths": [str(path) for path in manager.extensionModulePaths("{MODULE}")],
}}))
"""
"""What Slicer is asked by itself, in words that hold for a real one too."""


@pytest.fixture(scope="module")
def facts(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text(host, FACTS))
    missing = {"kind", "version", "revision", "home", "server", "extension", "sha256", "licences"} - set(
        found
    )
    assert not missing, f"{FACTS} does not say: {', '.join(sorted(missing))}"
    return found


@pytest.fixture(scope="module")
def started(host: Host, facts: dict[str, Any]) -> dict[str, Any]:
    return start(host, facts, {})[0]


def line(said: str) -> str:
    """The end of what a program said, as one line."""
    return " ".join(said.split())[-200:]


def start(host: Host, facts: dict[str, Any], session: dict[str, str]) -> tuple[dict[str, Any], str]:
    """Start Slicer as a user does, who may write nothing here; return what it has, and all that it said."""
    environment = {"HOME": "/tmp", "PATH": "/usr/bin:/bin", **session}
    words = [f"{name}={value}" for name, value in environment.items()]
    words += ["xvfb-run", "--auto-servernum", f"{facts['home']}/{WRAPPER}"]
    words += ["--no-splash", "--no-main-window", "--exit-after-startup", "--python-code", ASKED]
    command = "setpriv --reuid=65534 --regid=65534 --clear-groups env -i " + " ".join("%s" for _ in words)
    done = host.run(command, *words)
    assert done.rc == 0, f"Slicer does not start: it ended with {done.rc}: {line(done.stderr)}"
    answers = [line[4:] for line in done.stdout.splitlines() if line.startswith("kiln{")]
    assert len(answers) == 1, f"Slicer did not say what it has: {line(done.stdout)}"
    return json.loads(answers[0]), done.stdout + done.stderr


def settings(host: Host, facts: dict[str, Any]) -> dict[str, str]:
    """Slicer's own settings file, as Qt reads it: what is not in quotes ends at a semicolon."""
    parser = configparser.RawConfigParser(delimiters="=", comment_prefixes=("#", ";"), strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text(host, f"{facts['home']}/slicer.org/Slicer.ini"))
    found = {}
    for group in parser.sections():
        for key, value in parser.items(group):
            quoted = re.fullmatch(r'"((?:[^"\\]|\\.)*)"', value)
            plain = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else value.partition(";")[0]
            found[f"{group}/{key}"] = plain
    return found


def test_what_is_installed_is_what_is_said(
    tree: Tree, facts: dict[str, Any], started: dict[str, Any]
) -> None:
    marked = f"{facts['home']}/STAND-IN" in tree
    assert facts["kind"] == ("stand-in" if marked else "real"), (
        f"the image says {facts['kind']} of its Slicer"
    )
    for key in ("version", "revision"):
        assert started[key].startswith(facts[key]), (
            f"{key} is {started[key]}, and the image says {facts[key]}"
        )


def test_archives_are_those_that_were_checked(host: Host, facts: dict[str, Any]) -> None:
    """What was unpacked last, and what the image says of it, come from the same checksums."""
    installed = json.loads(text(host, f"{facts['home']}/kiln/installed.json"))
    for name, digest in facts["sha256"].items():
        assert re.fullmatch("[0-9a-f]{64}", digest), f"the archive of {name} has no checksum"
        assert installed.get(name) == digest, f"the archive of {name} is another than the image says"


def test_extension_is_of_this_revision(tree: Tree, facts: dict[str, Any], started: dict[str, Any]) -> None:
    extension, revision = facts["extension"], facts["revision"]
    archive = str(extension["archive"])
    assert archive.startswith(f"{revision}-"), f"the extension {archive} is not for revision {revision}"
    path = f"{extension['path']}/{MODULE}.py"
    assert f"/Extensions-{revision}/" in path and path in tree, f"revision {revision} has no {MODULE}.py"
    assert started["installed"], f"Slicer does not know the extension {MODULE}"
    assert extension["path"] in started["paths"], f"Slicer looks for {MODULE} at {started['paths']}"


def test_settings_name_the_server(host: Host, facts: dict[str, Any]) -> None:
    found, server = settings(host, facts), facts["server"]
    baked = json.loads(text(host, f"{facts['home']}/kiln/server.json"))["server_url"]
    assert re.match(r"https?://", server), f"the image's server {server!r} is no address"
    assert found.get(SERVER) == server, f"Slicer.ini names the server {found.get(SERVER)}, not {server}"
    assert found.get(HISTORY, "").split(";")[0] == server, f"Slicer.ini offers {found.get(HISTORY)} first"
    assert baked == server, f"the start-up file knows {baked}, not {server}"


def test_module_is_shown_first(host: Host, facts: dict[str, Any]) -> None:
    shown_first = settings(host, facts).get("Modules/HomeModule")
    assert shown_first == MODULE, f"Slicer shows {shown_first or 'its welcome'} first"


def test_nothing_updates_itself(host: Host, facts: dict[str, Any]) -> None:
    found = settings(host, facts)
    on = [key for key in UPDATES if found.get(key) != "false"]
    assert not on, f"updates come by themselves: {', '.join(on)}"


@pytest.mark.parametrize("case", CASES)
def test_start_up_file_finds_the_server(host: Host, facts: dict[str, Any], case: str) -> None:
    environment, wanted = CASES[case]
    variable = json.loads(text(host, f"{facts['home']}/kiln/server.json"))["variable"]
    found, whole = start(host, facts, environment(variable))
    assert "Traceback" not in whole, f"something raises as Slicer starts: {line(whole)}"
    server = wanted or facts["server"]
    assert found["server"] == server, f"where a session says {case}, Slicer asks {found['server']}"
    assert str(found["history"]).startswith(server), f"Slicer offers {found['history']}, not {server} first"


def test_every_start_reads_the_start_up_file(host: Host, tree: Tree, facts: dict[str, Any]) -> None:
    home = facts["home"]
    named = f"SLICERRC={home}/{START_UP}"
    for path in (
        f"{home}/{WRAPPER}",
        "/etc/environment.d/60-kiln-slicer.conf",
        "/etc/profile.d/kiln-slicer.sh",
    ):
        assert named in text(host, path), f"{path} does not name {START_UP}"
    link = tree["/usr/local/bin/slicer"]
    assert (link.kind, link.target) == ("l", f"{home}/{WRAPPER}"), f"slicer on PATH is {link.target}"
    desktop = text(host, "/usr/share/applications/slicer.desktop")
    assert f"\nExec={home}/{WRAPPER} " in desktop, "the icon starts Slicer past the start-up file"


def test_files_open_with_slicer(host: Host, facts: dict[str, Any]) -> None:
    desktop = text(host, "/usr/share/applications/slicer.desktop")
    types = re.findall(r"^MimeType=(.*)$", desktop, re.MULTILINE)
    assert types, "Slicer opens no files"
    known = text(host, "/usr/share/mime/globs2")
    ours = re.findall(r'mime-type type="([^"]+)"', text(host, "/usr/share/mime/packages/kiln-slicer.xml"))
    deaf = [each for each in ours if f":{each}:" not in known]
    assert not deaf, f"the system does not know files of {', '.join(deaf)}"
    unopened = [each for each in ours if each not in types[0].split(";")]
    assert not unopened, f"Slicer does not open {', '.join(unopened)}"


def test_licences_are_kept(tree: Tree, facts: dict[str, Any]) -> None:
    gone = [path for path in facts["licences"] if path not in tree]
    assert facts["licences"] and not gone, f"licences are missing: {', '.join(gone) or 'all'}"


def test_sample_is_a_volume(host: Host, facts: dict[str, Any]) -> None:
    magic = said(host, "head -c 4 %s", f"{facts['home']}/kiln/sample.nrrd")
    assert magic == "NRRD", f"the sample begins with {magic!r} and is no volume"


def test_users_change_nothing(tree: Tree, facts: dict[str, Any]) -> None:
    paths = [facts["home"], *tree.below(facts["home"])]
    assert len(paths) > 10, f"{facts['home']} is empty"
    loose = [path for path in paths if tree[path].kind != "l" and tree[path].mode & 0o022]
    assert not loose, f"others may change {shown(loose)}"
    foreign = [path for path in paths if (tree[path].uid, tree[path].gid) != (0, 0)]
    assert not foreign, f"another than root has {shown(foreign)}"
    closed = [path for path in paths if tree[path].kind != "l" and not tree[path].mode & 0o004]
    assert not closed, f"users cannot read {shown(closed)}"
