"""3D Slicer on AppStream, both ways whole: the real playbook on a builder, an AMI imported, a fleet of each.

The builder is a root of Debian by chroot. Emulator and Image Assistant stand in for AWS's, the archives for
Slicer's own; playbook, roles, the module MONAI Label and the commands of AWS are the real ones.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kiln import config as configuration
from kiln import paths, slicer
from kiln.appstream import Builder
from kiln.config import Config
from kiln.errors import Exit
from launch import builder_plan, fleet_plan, names, promote
from launch.builder_host import ByAnsible
from launch.cloud import Cloud
from launch.execute import carry_out
from launch.records import Records
from scripts import layer
from tests.aws import released, streaming
from tests.aws.conftest import ACCOUNT, REGION
from tests.aws.image_assistant import __file__ as assistant
from tests.aws.streaming import FIRST, Ground, name
from tests.emulator.handle import Emulator
from tests.molecule.test_scenarios import base_root  # noqa: F401 - a fixture
from tests.slicer import standin

Clients = Callable[..., Any]

PLAYBOOK = paths.ROOT / "ansible/playbooks/slicer.yml"
GENERAL = "GeneralPurpose.m7i.xlarge"

PROGRAMS = {
    "update-mime-database": "exit 0",
    "update-desktop-database": "exit 0",
    "xvfb-run": 'shift\nexec "$@"',
}
"""Programs of Debian packages that the role slicer calls; molecule installs the packages."""


@dataclass(frozen=True)
class InRoot(ByAnsible):
    """A builder that is a root of this machine: no account is made in it, and none has to leave."""

    @property
    def assistant(self) -> list[str]:
        return ["/bin/AppStreamImageAssistant"]

    @property
    def leave(self) -> list[str]:
        return ["true"]

    def reach(self, builder: Builder, address: str, secret: str, folder: Path) -> InRoot:
        """The way in, as :data:`launch.builder_job.Reach` has it."""
        return self


@pytest.fixture
def root(base_root: Path, tmp_path: Path, emulator: Emulator) -> Iterator[Path]:  # noqa: F811
    """A root in which the Image Assistant speaks to the emulator, as one on a builder does to AWS."""
    with layer.mounted(base_root, tmp_path / "layer") as merged:
        said = {
            "ASSISTANT_STATE": "/var/lib/image-assistant.json",
            "ASSISTANT_EMULATOR": emulator.endpoint,
            "ASSISTANT_ACCOUNT": ACCOUNT,
            "ASSISTANT_REGION": REGION,
            "ASSISTANT_BUILDER": "kiln-slicer-builder",
        }
        exports = "\n".join(f"export {key}={value}" for key, value in said.items())
        text = f'#!/bin/sh\n{exports}\nexec python3 /usr/local/lib/image_assistant.py "$@"\n'
        (merged / "bin/AppStreamImageAssistant").write_text(text)
        (merged / "bin/AppStreamImageAssistant").chmod(0o755)
        (merged / "usr/local/lib/image_assistant.py").write_text(Path(assistant).read_text())
        for program, does in PROGRAMS.items():
            (merged / "usr/bin" / program).write_text(f"#!/bin/sh\n{does}\n")
            (merged / "usr/bin" / program).chmod(0o755)
        subprocess.run(["mount", "--bind", "/dev", merged / "dev"], check=True)
        try:
            yield merged
        finally:
            subprocess.run(["umount", merged / "dev"], check=True)


@pytest.fixture
def ground(client: Clients, emulator: Emulator) -> Ground:
    # Each look at AppStream lets five minutes go by: a test need not look as often as a run does.
    emulator.settings(describe_seconds=300)
    return streaming.ground(client)


def download(made: standin.Made, root: Path) -> dict[str, str]:
    """Bring an archive into a root; returns how kiln.toml pins it."""
    place = root / "run/slicer"
    place.mkdir(parents=True, exist_ok=True)
    (place / made.path.name).write_bytes(made.path.read_bytes())
    return {"url": f"file:///run/slicer/{made.path.name}", "sha256": made.sha256}


def written(kiln_toml: Path, ground: Ground, root: Path, folder: Path) -> Config:
    """A kiln.toml whose slicer is made on a builder by the real playbook."""
    archives = {
        "slicer": download(standin.archive(folder), root),
        "extension": download(standin.extension(folder), root),
    }
    linux = "\n".join(
        f'[image.slicer.slicer.linux.{key}]\nurl = "{said["url"]}"\nsha256 = "{said["sha256"]}"'
        for key, said in archives.items()
    )
    appstream = f"""display_name = "3D Slicer"
[[image.slicer.appstream.applications]]
name = "slicer"
path = "/usr/local/bin/slicer"
display_name = "3D Slicer"
icon = "/opt/slicer/kiln/slicer.png"
working_directory = "/opt/slicer"
launch_parameters = "--no-splash"
manifest = "/usr/share/kiln/appstream/slicer.txt"
[image.slicer.appstream.servers]
kiln-readers = "https://label.example:8443"
[image.slicer.appstream.builder]
base = "{streaming.NATIVE}"
subnet = "{ground.subnets[0]}"
security_groups = ["{ground.security_group}"]
connect = "ssh"
secret = "env:KILN_TEST_SECRET"
prepared = true
[image.slicer.slicer]
version = "{standin.VERSION}"
revision = "{standin.REVISION}"
{linux}
"""
    return streaming.write(kiln_toml, appstream=appstream, playbook=PLAYBOOK)


@pytest.mark.slow
@pytest.mark.root
def test_a_builder_becomes_the_image_and_a_fleet_uses_it(
    cloud: Cloud,
    kiln_toml: Path,
    client: Clients,
    emulator: Emulator,
    ground: Ground,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KILN_TEST_SECRET", "a key")
    monkeypatch.setenv("KILN_CACHE", str(tmp_path / "cache"))
    # kiln.toml cannot pin a stand-in: what it makes must not pass for the real one.
    pinned = slicer.variables
    stand_in = {"slicer_kind": "stand-in", "slicer_packages_installed": True}
    monkeypatch.setattr(slicer, "variables", lambda *given: {**pinned(*given), **stand_in})
    config = written(kiln_toml, ground, root, tmp_path / "archives")
    place = {
        "ansible_connection": "community.general.chroot",
        "ansible_host": str(root),
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    host = InRoot("ssh", place)
    before = len(emulator.requests())
    made = builder_plan.plan(cloud, config, "slicer", reach=host.reach)
    assert [step.stage for step in made.steps] == ["builder", "provision", "catalogue", "image", "clean up"]
    assert carry_out(made, cloud) is Exit.DONE
    version = made.facts["version"]

    (image,) = client("appstream").describe_images(Type="PRIVATE")["Images"]
    assert image["State"] == "AVAILABLE" and image["Name"] == name(version)
    (application,) = image["Applications"]
    assert application["LaunchPath"] == "/usr/local/bin/slicer"
    assert application["LaunchParameters"] == "--no-splash"
    assert client("appstream").describe_image_builders()["ImageBuilders"] == []
    assert json.loads((root / "etc/kiln/slicer.json").read_text())["kind"] == "stand-in"
    asked = json.loads((root / "var/lib/image-assistant.json").read_text())["asked"]
    assert [each[0] for each in asked].count("add-application") == 1, "the role did, and kiln found it done"

    # Its papers: whole, and they say what it is.
    records = Records(cloud, config)
    manifest, proof = records.manifest("slicer", version), records.proof("slicer", version)
    assert manifest is not None and proof is not None and manifest.facts.slicer == "stand-in"
    assert manifest.facts.debian == "12" and manifest.facts.roles == ["appstream", "base", "seal", "slicer"]
    assert len(proof.checks) == 9 and {check.outcome for check in proof.checks} == {"passed"}
    refused = promote.plan(cloud, config, "slicer", version, "stable", back=False)
    assert [each.check for each in refused.refusals] == ["slicer-stand-in"]

    # A channel for trials takes it, and a fleet that follows the channel runs it.
    assert not promote.plan(cloud, config, "slicer", version, "trial", back=False).refusals
    streaming.put(client, ground)
    streaming.promote(client, version)
    fleet = fleet_plan.plan(cloud, config, "readers", None, False)
    assert carry_out(fleet, cloud) is Exit.DONE
    found = streaming.state(client, "kiln-readers")
    assert (found["State"], found["ImageName"]) == ("RUNNING", name(version))
    again = builder_plan.plan(cloud, config, "slicer", reach=host.reach)
    assert not again.steps and not again.refusals
    assert all(each["valid"] for each in emulator.requests(before))


IMPORTED = rf"""import_role = "{streaming.ROLE}"
display_name = "3D Slicer"
validate_on = "{GENERAL}"
[[image.slicer.appstream.applications]]
name = "slicer"
path = 'C:\Program Files\Slicer\Slicer.exe'
display_name = "3D Slicer"
icon = 'C:\Program Files\Slicer\kiln\slicer.png'
working_directory = 'C:\Program Files\Slicer'
manifest = 'C:\ProgramData\kiln\appstream\slicer.txt'
"""


def test_an_ami_is_imported_and_a_fleet_uses_it(
    cloud: Cloud, kiln_toml: Path, client: Clients, emulator: Emulator, ground: Ground
) -> None:
    config = streaming.write(kiln_toml, appstream=IMPORTED, target=f'instance_type = "{GENERAL}"\n')
    streaming.import_role(client)
    streaming.windows_ami(client, FIRST)
    streaming.put(client, ground)
    for key, body in zip(
        ("manifest.json", "proof.json"), released.documents("slicer", FIRST, slicer="real"), strict=True
    ):
        released.put(client, f"images/slicer/{FIRST}/{key}", body)
    released.put(client, f"images/slicer/{FIRST}/sbom.cdx.json", b"{}")
    streaming.promote(client, FIRST)
    before = len(emulator.requests())
    made = fleet_plan.plan(cloud, config, "readers", None, True)
    assert carry_out(made, cloud) is Exit.DONE
    (image,) = client("appstream").describe_images(Names=[name(FIRST)])["Images"]
    assert (image["State"], image["ImageType"]) == ("AVAILABLE", "CUSTOM")
    tags = client("appstream").list_tags_for_resource(ResourceArn=image["Arn"])["Tags"]
    assert tags[names.VERSION] == FIRST
    (application,) = image["Applications"]
    assert application["LaunchPath"] == r"C:\Program Files\Slicer\Slicer.exe"
    found = streaming.state(client, "kiln-readers-custom")
    assert (found["State"], found["ImageName"], found["InstanceType"]) == ("RUNNING", name(FIRST), GENERAL)
    assert client("appstream").list_associated_fleets(StackName="kiln-readers")["Names"] == [
        "kiln-readers-custom"
    ]
    assert all(each["valid"] for each in emulator.requests(before))


def test_kiln_toml_that_pins_no_slicer_for_the_builder_is_told_so(
    cloud: Cloud, kiln_toml: Path, ground: Ground, client: Clients
) -> None:
    streaming.write_built(kiln_toml, ground)
    text = kiln_toml.read_text().replace(str(kiln_toml.parent / "slicer.yml"), str(PLAYBOOK))
    kiln_toml.write_text(text)
    config = configuration.load(kiln_toml)
    with pytest.raises(configuration.UsageError, match="pins no 3D Slicer for Linux") as told:
        builder_plan.plan(cloud, config, "slicer")
    assert "[image.NAME.slicer]" in told.value.hint
