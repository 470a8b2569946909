"""The role appstream: what it shares with the role slicer, its session script, its Image Assistant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from kiln import assistant, paths
from kiln.appstream import Application
from kiln.assistant import Answer
from scripts import role_readme

ROLE = role_readme.ROLES / "appstream"
STAND_IN = paths.ROOT / "tests/aws/image_assistant.py"


def known(role: str, family: str, **given: Any) -> Templar:
    """A templar with the variables of a role, on a system of a family."""
    loader = DataLoader()
    variables: dict[str, Any] = {}
    for file in ("defaults", "vars"):
        path = role_readme.ROLES / role / file / "main.yml"
        variables |= loader.load_from_file(str(path), trusted_as_template=True)
    search = [str(role_readme.ROLES / role)]
    more = {
        "ansible_facts": {"os_family": family},
        "ansible_managed": "by Ansible",
        "ansible_search_path": search,
    }
    return Templar(loader, {**variables, **more, **given})


def value(role: str, family: str, name: str) -> Any:
    return known(role, family).template(trust_as_template("{{ " + name + " }}"))


@pytest.mark.parametrize("family", ["Debian", "RedHat", "Windows"])
def test_the_two_roles_agree_where_slicer_is(family: str) -> None:
    """No role reads another one's variables: each has a plain default, and they are the same."""
    home = value("slicer", family, "__slicer_home")
    usual = value("appstream", family, "__appstream_usual")
    (application,) = usual["applications"]
    (prewarm,) = usual["prewarm"]
    separator = "\\" if family == "Windows" else "/"
    assert usual["context_file"] == value("slicer", family, "__slicer_context_file")
    assert application["working_directory"] == home
    assert application["icon"] == separator.join((home, "kiln", "slicer.png"))
    assert application["manifest"] == prewarm["manifest"]
    assert prewarm["folders"] == [separator.join((home, folder)) for folder in ("bin", "lib")]
    if family == "Windows":
        assert application["path"] == rf"{home}\Slicer.exe"


def script(folder: Path, context: Path) -> Path:
    """The session script, for two fleets."""
    servers = {"kiln-readers": "https://label.example:8443", "it's": "http://other.example/a"}
    templar = known("appstream", "Debian", appstream_servers=servers, appstream_context_file=str(context))
    text = templar.template(trust_as_template((ROLE / "templates/kiln-start.sh.j2").read_text()))
    path = folder / "kiln-start.sh"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("fleet", "server"),
    [
        ("kiln-readers", "https://label.example:8443"),
        ("it's", "http://other.example/a"),
        ("kiln-reader", None),
        ("*", None),
        ("", None),
    ],
)
def test_a_session_has_its_fleets_server(fleet: str, server: str | None, tmp_path: Path) -> None:
    context = tmp_path / "context.json"
    context.write_text('{"server_url": "http://of.an.earlier.session"}')
    done = subprocess.run(
        ["sh", script(tmp_path, context)],
        env={"PATH": os.environ["PATH"], "AppStream_Resource_Name": fleet},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    if server is None:
        assert not context.exists(), "the image's own counts"
    else:
        assert json.loads(context.read_text()) == {"server_url": server}
        assert context.stat().st_mode & 0o777 == 0o644, "users read it"


def test_a_session_starts_though_its_server_cannot_be_written(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", script(tmp_path, tmp_path / "nothing/context.json")],
        env={"PATH": os.environ["PATH"], "APPSTREAM_RESOURCE_NAME": "kiln-readers"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "was not written" in done.stdout


def test_a_list_is_read_whatever_its_keys_look_like() -> None:
    """What list-applications does not tell of an application counts as another: it is put in anew."""
    asked: list[list[str]] = []
    wanted = [Application(name="slicer", path="/bin/sh", display_name="3D Slicer")]
    listed: dict[str, Any] = {"Name": "slicer", "absoluteAppPath": "/bin/sh", "DISPLAYNAME": "3D Slicer"}

    def call(arguments: list[str]) -> Answer:
        asked.append(arguments)
        return Answer(0, json.dumps({"status": 0, "message": "Success", "applications": [listed]}), "")

    assert not assistant.catalogue(call, wanted, lambda _: None)
    assert [each[0] for each in asked] == ["list-applications"]
    del listed["DISPLAYNAME"]
    assert assistant.catalogue(call, wanted, lambda _: None)
    assert [each[0] for each in asked[1:]] == ["list-applications", "remove-application", "add-application"]
    assert assistant.catalogue(call, wanted, lambda _: None, only_look=True)
    assert len(asked) == 5, "who only looks changes nothing"


APPLICATIONS = [{"name": "slicer", "path": "/bin/sh", "launch_parameters": '--python-code "1 + 1"'}]
IMAGE = {"name": "kiln-slicer", "display_name": "3D Slicer", "tags": {"kiln:image": "slicer"}}

TASKS: list[dict[str, Any]] = [
    {"applications": APPLICATIONS, "check": True},
    {"applications": APPLICATIONS},
    {"applications": APPLICATIONS},
    {"image": IMAGE},
    {"image": IMAGE},
    {"image": {"name": "AppStream-slicer"}, "fails": True},
    {"applications": APPLICATIONS * 2, "fails": True},
    {"applications": [{"name": "a", "path": "/nothing"}], "fails": True},
]


@pytest.mark.slow
def test_the_plugin_does_what_is_missing_and_nothing_else(tmp_path: Path) -> None:
    program, state = tmp_path / "assistant", tmp_path / "state.json"
    program.write_text(f'#!/bin/sh\nASSISTANT_STATE={state} exec {sys.executable} {STAND_IN} "$@"\n')
    program.chmod(0o755)
    tasks = []
    for number, given in enumerate(TASKS):
        wanted = {key: each for key, each in given.items() if key not in ("check", "fails")}
        tasks.append(
            {
                "image_assistant": {**wanted, "program": str(program)},
                "check_mode": given.get("check", False),
                "register": f"said_{number}",
                "ignore_errors": given.get("fails", False),
            }
        )
    names = [f"said_{number}" for number in range(len(TASKS))]
    keep = {"content": "{{ [" + ", ".join(names) + "] | to_json }}", "dest": str(tmp_path / "said.json")}
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "tasks": [*tasks, {"copy": keep}],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", tmp_path / "play.yml"],
        env={
            **environment,
            "ANSIBLE_CONFIG": str(paths.ROOT / "ansible.cfg"),
            "ANSIBLE_LIBRARY": str(ROLE / "library"),
            "ANSIBLE_ACTION_PLUGINS": str(ROLE / "action_plugins"),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    said = json.loads((tmp_path / "said.json").read_text())
    assert [bool(each.get("changed")) for each in said[:5]] == [True, True, False, True, False]
    assert said[4]["did"][-1] == "there is an image kiln-slicer already"
    assert [bool(each.get("failed")) for each in said] == [given.get("fails", False) for given in TASKS]
    assert "begins with what AWS keeps" in said[5]["msg"] and "stands twice" in said[6]["msg"]
    assert "File not found" in said[7]["msg"] and "correct the path" in said[7]["msg"]
    kept = json.loads(state.read_text())
    # What failed in the end had taken the old one out; what was only looked at put nothing in.
    asked = [each[0] + (" --dry-run" if "--dry-run" in each else "") for each in kept["asked"]]
    assert asked == [
        "list-applications",
        *("list-applications", "add-application"),
        "list-applications",
        *("create-image --dry-run", "create-image"),
        "create-image --dry-run",
        *("list-applications", "remove-application", "add-application"),
    ]
    assert kept["images"] == [{"name": "kiln-slicer", "tags": {"kiln:image": "slicer"}}]
