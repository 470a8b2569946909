"""What a builder tells of itself, the checks of it, and its papers: each check refuses its planted defect."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tree_sitter
import tree_sitter_powershell

from kiln import sbom
from kiln.config import Config
from kiln.errors import KilnError, RefusedError
from kiln.manifest import Inputs
from launch import builder_checks, builder_facts, builder_record, stable
from launch.builder_facts import Told
from launch.cloud import Cloud
from launch.records import MANIFEST, PROOF, SBOM, Records
from tests.aws import released, streaming
from tests.aws.builder_local import Local

Clients = Callable[..., Any]

VERSION = "20260102T030405Z-01234567"
SHA256 = {"slicer": "a" * 64, "extension": "b" * 64}
SERVER = "http://monai-label.kiln.internal"
ROLES = ["slicer", "appstream"]

SETTINGS = f"""[ApplicationUpdate]
AutoUpdateCheck=false

[Extensions]
AutoUpdateCheck=false
AutoUpdateInstall=false

[MONAILabel]
serverUrl="{SERVER}"
serverUrlHistory="{SERVER};http://other.example"
"""


def wanted(kind: str = "real") -> dict[str, Any]:
    """Variables of the playbook."""
    return {
        "slicer_kind": kind,
        "slicer_version": "5.10.0",
        "slicer_revision": "34045",
        "slicer_sha256": SHA256["slicer"],
        "slicer_extension_sha256": SHA256["extension"],
        "appstream_applications": [{"name": "slicer", "path": "/usr/local/bin/slicer"}],
    }


class Builder:
    """The files that the roles leave on a builder, in a folder of this machine."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = folder / "slicer"
        self.places = {name: str(folder / f"{name}.json") for name in ("slicer", "catalogue", "sessions")}
        monkeypatch.setitem(builder_facts.PLACES, "ssh", self.places)
        self.script = folder / "start.sh"
        self.script.write_text("#!/bin/sh\n")
        self.slicer: dict[str, Any] = {
            "kind": "real",
            "version": "5.10.0",
            "revision": "34045",
            "home": str(self.home),
            "server": SERVER,
            "sha256": SHA256,
            "extension": {"name": "MONAILabel", "revision": "34045", "path": str(self.home / "modules")},
        }
        self.write("slicer.org/Slicer.ini", SETTINGS)
        self.write("kiln/slicerrc.py", "import os\n")
        self.write("modules/MONAILabel.py", "class MONAILabel: ...\n")
        self.applications = [{"name": "slicer", "path": "/usr/local/bin/slicer"}]
        self.sessions: dict[str, Any] = {
            "SessionStart": {
                "executables": [
                    {
                        "context": "system",
                        "filename": str(self.script),
                        "arguments": "",
                        "s3LogEnabled": True,
                    }
                ],
                "waitingTime": 30,
            },
            "SessionTermination": {"executables": [], "waitingTime": 30},
        }
        self.host = Local(folder, "http://127.0.0.1:9")

    def write(self, name: str, text: str) -> None:
        """Write a file below Slicer's home."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def told(self) -> Told:
        """What it tells, by the real scripts."""
        Path(self.places["slicer"]).write_text(json.dumps(self.slicer))
        Path(self.places["catalogue"]).write_text(json.dumps({"applications": self.applications}))
        Path(self.places["sessions"]).write_text(json.dumps(self.sessions))
        return builder_facts.read(self.host)


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builder:
    return Builder(tmp_path, monkeypatch)


def failed(told: Told, **more: Any) -> dict[str, str]:
    checks = builder_checks.judge(told, ROLES, {**wanted(), **more})
    assert len(checks) == len(builder_checks.RULES) + 1
    assert all("\n" not in check.message for check in checks)
    return {each.id.rpartition("::")[2]: each.message for each in checks if each.outcome == "failed"}


def test_a_sound_builder_passes_and_tells_its_packages(builder: Builder) -> None:
    told = builder.told()
    assert failed(told) == {}
    assert told.system and told.kernel and len(told.packages) > 20
    assert told.slicer == builder.slicer


def edit(builder: Builder, name: str, *change: str) -> None:
    text = (builder.home / name).read_text()
    assert change[0] in text
    builder.write(name, text.replace(*change, 1))


DEFECTS: tuple[tuple[str, str, Callable[[Builder], Any], str], ...] = (
    ("a stand-in", "slicer_is_the_one_asked_for", lambda b: b.slicer.update(kind="stand-in"), "kind is"),
    ("another Slicer", "slicer_is_the_one_asked_for", lambda b: b.slicer.update(version="5.8.1"), "5.8.1"),
    (
        "another file",
        "slicer_is_of_the_pinned_files",
        lambda b: b.slicer.update(sha256={**SHA256, "extension": "c" * 64}),
        "extension: installed from another file",
    ),
    (
        "an extension of another revision",
        "extension_is_there_and_of_this_revision",
        lambda b: b.slicer["extension"].update(revision="33241"),
        "for revision 33241, Slicer is 34045",
    ),
    (
        "no module",
        "extension_is_there_and_of_this_revision",
        lambda b: (b.home / "modules/MONAILabel.py").unlink(),
        "MONAILabel.py is not there",
    ),
    (
        "automatic updates left on",
        "automatic_updates_are_off",
        lambda b: edit(b, "slicer.org/Slicer.ini", "AutoUpdateInstall=false", "AutoUpdateInstall=true"),
        "Extensions/AutoUpdateInstall",
    ),
    (
        "automatic updates not spoken of",
        "automatic_updates_are_off",
        lambda b: edit(b, "slicer.org/Slicer.ini", "AutoUpdateCheck=false\n", ""),
        "ApplicationUpdate/AutoUpdateCheck",
    ),
    (
        "another server",
        "settings_have_the_server",
        lambda b: edit(
            b, "slicer.org/Slicer.ini", f'serverUrl="{SERVER}"', 'serverUrl="http://other.example"'
        ),
        "is http://other.example, asked was",
    ),
    (
        "a server that is not offered",
        "settings_have_the_server",
        lambda b: edit(b, "slicer.org/Slicer.ini", f'History="{SERVER};', 'History="'),
        "Slicer does not offer it",
    ),
    (
        "a start-up file that is no Python",
        "start_up_file_can_be_read",
        lambda b: b.write("kiln/slicerrc.py", "import os; def"),
        "is no Python",
    ),
    (
        "no start-up file",
        "start_up_file_can_be_read",
        lambda b: (b.home / "kiln/slicerrc.py").unlink(),
        "slicerrc.py is not there",
    ),
    (
        "another catalogue",
        "catalogue_is_kiln_tomls",
        lambda b: b.applications[0].update(path="/bin/sh"),
        "slicer: not in the catalogue as kiln.toml has it",
    ),
    ("no catalogue", "catalogue_is_kiln_tomls", lambda b: b.applications.clear(), "empty"),
    (
        "a session script that is not there",
        "session_scripts_are_as_appstream_takes_them",
        lambda b: b.script.unlink(),
        "no session would start",
    ),
    (
        "session scripts that AppStream stops",
        "session_scripts_are_as_appstream_takes_them",
        lambda b: b.sessions["SessionStart"].update(waitingTime=61),
        "waits 61 s",
    ),
    (
        "two scripts of a context",
        "session_scripts_are_as_appstream_takes_them",
        lambda b: b.sessions["SessionStart"].update(
            executables=b.sessions["SessionStart"]["executables"] * 2
        ),
        "several session scripts",
    ),
)


@pytest.mark.parametrize(
    ("rule", "plant", "words"), [each[1:] for each in DEFECTS], ids=[d[0] for d in DEFECTS]
)
def test_a_planted_defect_is_found_by_its_check_alone(
    rule: str, plant: Callable[[Builder], Any], words: str, builder: Builder
) -> None:
    plant(builder)
    found = failed(builder.told())
    assert set(found) == {rule} and words in found[rule], found


def test_every_check_has_a_defect(builder: Builder) -> None:
    assert {each[1] for each in DEFECTS} == {rule.name for rule in builder_checks.RULES}
    assert "packages_are_known" in failed(replace(builder.told(), packages={}))


def test_a_builder_that_the_roles_never_saw_is_refused(builder: Builder) -> None:
    told = replace(builder.told(), slicer=None, catalogue=None, sessions=None, files={})
    assert set(failed(told)) == {rule.name for rule in builder_checks.RULES}


def inputs(kind: str) -> Inputs:
    return Inputs(
        destination="builder",
        files={"ansible/playbooks/slicer.yml": "0" * 64},
        variables=wanted(kind),
        base_lock="0" * 64,
        tools={"ansible-core": "2.19.0"},
    )


@pytest.fixture
def config(kiln_toml: Path) -> Config:
    return streaming.write(kiln_toml)


@pytest.mark.parametrize("kind", ["real", "stand-in"])
def test_a_version_of_a_builder_has_its_papers_and_stable_takes_what_is_real(
    kind: str, cloud: Cloud, config: Config, client: Clients, builder: Builder
) -> None:
    released.ready(client)
    records, said = Records(cloud, config), []
    builder.slicer["kind"] = kind
    builder.told()
    for _ in range(2):
        # A run that was killed goes on here: what is written stays as it is.
        with cloud.permit(records.writing):
            builder_record.keep(records, builder.host, "slicer", VERSION, inputs(kind), ROLES, said.append)
    assert len([line for line in said if line.startswith("writing")]) == 3
    manifest = records.manifest("slicer", VERSION)
    assert manifest is not None and manifest.facts.slicer == kind and manifest.root_bytes is None
    assert manifest.inputs.destination == "builder" and manifest.facts.packages
    proof = records.proof("slicer", VERSION)
    assert proof is not None and proof.manifest_digest == records.manifest_digest("slicer", VERSION)
    body = records.get(records.version_key("slicer", VERSION, SBOM))
    assert body is not None
    sbom.validate(body.decode())
    named = {part["name"]: part for part in json.loads(body)["components"]}
    assert named["slicer"]["hashes"] == [{"alg": "SHA-256", "content": SHA256["slicer"]}]
    assert named["MONAILabel"]["version"] == "34045" and len(named) > 20
    refused = [each.check for each in stable.judge(records, config, "slicer", VERSION, proof.started.date())]
    assert refused == ([] if kind == "real" else ["slicer-stand-in"])


def test_a_builder_with_a_defect_has_no_papers(
    cloud: Cloud, config: Config, client: Clients, builder: Builder
) -> None:
    released.ready(client)
    records = Records(cloud, config)
    edit(builder, "slicer.org/Slicer.ini", "AutoUpdateInstall=false", "AutoUpdateInstall=true")
    builder.told()
    with pytest.raises(RefusedError, match="automatic_updates_are_off") as refused:
        builder_record.keep(records, builder.host, "slicer", VERSION, inputs("real"), ROLES, lambda _: None)
    assert "\n" not in refused.value.what + refused.value.hint
    for name in (MANIFEST, PROOF, SBOM):
        assert not records.exists(records.version_key("slicer", VERSION, name))


def test_what_did_not_arrive_whole_is_told(builder: Builder) -> None:
    builder.told()
    Path(builder.places["slicer"]).write_text("{")
    with pytest.raises(KilnError, match="no object of JSON"):
        builder_facts.read(builder.host)
    builder.host.closed = 1
    with pytest.raises(KilnError, match="does not tell its facts"):
        builder_facts.read(builder.host)


def test_windows_is_asked_in_powershell() -> None:
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))
    for name in ("facts", "files"):
        *program, encoded = builder_facts.command("winrm", name, [r"C:\it's\a.json", "C:\\b"])
        script = base64.b64decode(encoded).decode("utf-16-le")
        assert program[-1] == "-EncodedCommand" and script.startswith(
            r"$Files = @('C:\it''s\a.json', 'C:\b')"
        )
        assert not parser.parse(script.encode()).root_node.has_error, name
        assert len(encoded) < 8000, "longer ones do not fit in a command line everywhere"
    slicer = {"home": r"C:\Program Files\Slicer", "extension": {"path": r"C:\Program Files\Slicer\lib"}}
    assert builder_facts.of_slicer(slicer)["settings"] == r"C:\Program Files\Slicer\slicer.org\Slicer.ini"
    assert builder_facts.of_slicer(slicer)["module"] == r"C:\Program Files\Slicer\lib\MONAILabel.py"
