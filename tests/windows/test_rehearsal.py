"""The whole playbook against the host that stands in for Windows: what arrives there, and what it leaves."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.windows import archives, rehearsal, reviewed, scenarios
from tests.windows.conftest import Run
from tests.windows.machine import NDP, POWERSHELL, Machine, key
from tests.windows.rehearsal import Rehearsal, Trouble

pytestmark = pytest.mark.slow

SYSPREP = "appstream/tasks/windows/seal.yml: Generalize Windows, and shut down"
HOME = "C:\\Program Files\\Slicer"
AU = "HKLM:\\SOFTWARE\\Policies\\Microsoft\\Windows\\WindowsUpdate\\AU|NoAutoUpdate"


def did(ran: Rehearsal) -> list[str]:
    """What a rehearsal has done on the host, in order."""
    return [each.known_as for each in ran.ran if not each.skipped and each.how]


def text(ran: Rehearsal, path: str) -> str:
    content = ran.machine.read(path)
    assert content is not None, f"{path} is not there"
    return content.decode()


def test_what_arrives_is_what_was_reviewed(fresh: Rehearsal, variables: dict[str, Any]) -> None:
    assert fresh.code == 0, fresh.output
    assert reviewed.differences(reviewed.rows(variables), fresh.ran) == []


def test_sysprep_is_the_last_thing_that_happens(fresh: Rehearsal) -> None:
    assert did(fresh)[-1] == SYSPREP
    assert fresh.machine.state["off"]


def test_slicer_is_installed_for_every_user_with_the_extension(fresh: Rehearsal) -> None:
    report = json.loads(text(fresh, f"{HOME}\\kiln\\extension.json"))
    assert report["installed"] and report["revision"] == archives.REVISION
    facts = json.loads(text(fresh, "C:\\ProgramData\\kiln\\slicer.json"))
    assert facts["home"] == HOME and facts["kind"] == "real"
    assert facts["extension"]["path"] == report["path"]
    assert [name.rpartition("\\")[2] for name in facts["licences"]] == ["copyright.txt", "license.txt"]
    assert fresh.machine.state["environment"] == {"SLICERRC": f"{HOME}\\kiln\\slicerrc.py"}


def test_users_read_what_is_ours_and_nothing_more(fresh: Rehearsal) -> None:
    folder = key("C:\\ProgramData\\kiln")
    rights = {user: right for user, _, right, _ in fresh.machine.state["rights"][folder]}
    assert rights == {
        "S-1-5-18": "FullControl",
        "S-1-5-32-544": "FullControl",
        "S-1-5-32-545": "ReadAndExecute",
    }
    assert fresh.machine.state["inherits"][folder] is False


def test_updates_came_before_they_were_switched_off(fresh: Rehearsal) -> None:
    assert fresh.machine.state["updates"] == [], "a round is left"
    assert fresh.machine.state["registry"][key(AU)] == {"type": "REG_DWORD", "value": 1}


def test_a_second_run_changes_nothing(fresh: Rehearsal, variables: dict[str, Any]) -> None:
    machine = fresh.machine
    scenarios.on(machine.folder)
    before = Machine(machine.folder).left()
    again = rehearsal.run(machine.folder, variables)
    assert again.code == 0, again.output
    changed = [each.known_as for each in again.ran if "changed" in each.how]
    assert changed == ["appstream/tasks/windows/seal.yml: Forget what this instance was", SYSPREP]
    assert {**again.machine.left(), "folders": before["folders"]} == before


def test_an_upgrade_leaves_nothing_of_the_old_one(play: Run, host: Machine) -> None:
    assert play().code == 0
    scenarios.on(host.folder)
    new = archives.offered(host, version="5.12.0", revision="35001")
    ran = rehearsal.run(host.folder, new)
    assert ran.code == 0, ran.output
    assert list(ran.machine.under(HOME))
    assert [name for name in ran.machine.under(HOME) if archives.REVISION in name] == []
    assert json.loads(text(ran, "C:\\ProgramData\\kiln\\slicer.json"))["revision"] == "35001"


def test_on_a_builder_the_catalogue_is_filled_and_nothing_is_sealed(play: Run, host: Machine) -> None:
    program = "C:\\Program Files\\Amazon\\Photon\\ConsoleImageBuilder\\image-assistant.exe"
    host.make(program.rpartition("\\")[0])
    host.put(program, b"")
    # AppStream's own agent is there already, on the ports that an import needs.
    host.state["listens"] += [8000, 8300, 8443]
    ran = play({"appstream_way": "builder"})
    assert ran.code == 0, ran.output
    assert SYSPREP not in did(ran) and not ran.machine.state["off"]
    assert [each["Name"] for each in ran.machine.state["applications"]] == ["slicer"]


def test_the_role_takes_away_what_it_brought(play: Run, host: Machine) -> None:
    given = archives.offered(host)
    host.save()
    before = set(host.state["files"]), dict(host.state["registry"])
    book = host.folder / "slicer.yml"
    book.write_text("- hosts: all\n  gather_facts: true\n  roles: [slicer]\n")
    assert rehearsal.run(host.folder, given, book=book).code == 0
    ran = scenarios.without_slicer(host.folder, given)
    assert ran.code == 0, ran.output
    # Windows stays up to date, and still asks for no updates.
    left = {name for name in ran.machine.state["registry"] if name not in before[1]}
    assert left == {key(AU)}
    assert set(ran.machine.state["files"]) == before[0]
    assert ran.machine.state["environment"] == {}


def test_an_installer_that_asks_for_a_reboot_gets_one(play: Run) -> None:
    calm = 2  # one for the updates
    ran = play(troubles={scenarios.INSTALLER: Trouble.REBOOT})
    assert ran.code == 0, ran.output
    assert ran.machine.state["boots"] == calm + 1


@pytest.mark.parametrize(
    ("plant", "says"),
    [
        ({"listens": [3389, 5986, 8300]}, "needs the ports 8300"),
        ({"features": ["RDS-RD-Server"]}, "no Windows with RDS-RD-Server"),
        ({"dotnet": 461814}, "older than 4.8 \\(release 461814"),
        ({"powershell": "4.0"}, "PowerShell is older than 5.1 \\(4.0"),
        ({"files": {}}, "asks for EC2Launch v2"),
        (
            {"distribution": "Microsoft Windows Server 2019 Datacenter"},
            "imports no Microsoft Windows Server 2019",
        ),
    ],
    ids=["port", "Remote Desktop", ".NET", "PowerShell", "EC2Launch", "2019"],
)
@pytest.mark.campaign
def test_a_windows_that_appstream_would_not_take_is_refused(
    play: Run, host: Machine, plant: dict[str, Any], says: str
) -> None:
    if "dotnet" in plant:
        host.state["registry"][key(f"{NDP}|Release")]["value"] = plant["dotnet"]
    elif "powershell" in plant:
        host.state["registry"][key(f"{POWERSHELL}|PowerShellVersion")]["value"] = plant["powershell"]
    elif "distribution" in plant:
        host.state["facts"]["ansible_distribution"] = plant["distribution"]
    else:
        host.state |= plant
    ran = play()
    assert ran.code == 2 and not ran.machine.state["off"]
    assert ran.last.known_as.endswith("Refuse what the import would refuse after half an hour")
    assert re.search(says, ran.output), ran.output[-2000:]


def test_updates_that_something_switches_on_again_are_refused(host: Machine) -> None:
    """As a policy of a domain would do it, between the two roles."""
    book = host.folder / "planted.yml"
    path, _, name = AU.partition("|")
    book.write_text(
        json.dumps(
            [
                {"hosts": "all", "gather_facts": True, "roles": ["slicer"]},
                {
                    "hosts": "all",
                    "tasks": [
                        {
                            "name": "A policy",
                            "ansible.windows.win_regedit": {
                                "path": path,
                                "name": name,
                                "data": 0,
                                "type": "dword",
                            },
                        }
                    ],
                },
                {"hosts": "all", "roles": ["appstream"]},
            ]
        )
    )
    given = archives.offered(host)
    ran = rehearsal.run(host.folder, given, book=book)
    assert ran.code == 2 and not ran.machine.state["off"]
    assert "Updates still come by themselves: NoAutoUpdate is 0" in ran.output


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"slicer_sha256": "0" * 64}, "did not match"),
        ({"slicer_extension_sha256": "0" * 64}, "did not match"),
        ({"slicer_grid_key": archives.GRID, "slicer_grid_sha256": "0" * 64}, "has the sha256"),
        ({"slicer_grid_key": archives.GRID}, "No sha256 is known for the driver"),
        ({"slicer_revision": "34046"}, "revision 34046"),
        ({"slicer_kind": "stand-in"}, "not that of stand-in Slicer"),
    ],
    ids=["checksum", "extension's checksum", "driver's checksum", "driver without", "revision", "kind"],
)
@pytest.mark.campaign
def test_what_is_not_what_was_pinned_is_refused(
    play: Run, host: Machine, changed: dict[str, Any], says: str
) -> None:
    archives.driver(host)
    ran = play(changed)
    assert ran.code == 2, ran.output
    assert says in ran.output
    assert not ran.machine.state["off"]


def test_an_extension_for_another_slicer_is_refused(host: Machine) -> None:
    given = archives.offered(host)
    given["slicer_extension_sha256"] = host.serve(given["slicer_extension_url"], archives.extension("31938"))
    ran = rehearsal.run(host.folder, given)
    assert ran.code == 2
    assert ran.last.known_as.endswith("Refuse an extension that Slicer does not take")
    assert "the extension is 31938-win-amd64-MONAILabel" in ran.output
