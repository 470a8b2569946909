"""Prune, revoke and sweep of what AppStream has: images, and image builders that bill."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import launch.sweep
from kiln import cli
from kiln.errors import Exit
from tests.aws import released, streaming
from tests.aws.conftest import ACCOUNT, BUCKET, REGION
from tests.aws.released import V1, V2
from tests.aws.streaming import NATIVE, Ground
from tests.emulator.handle import Emulator

Client = Callable[..., Any]


@pytest.fixture(autouse=True)
def ground(client: Client, kiln_toml: Path, emulator: Emulator) -> Ground:
    # Each look at AppStream lets five minutes go by.
    emulator.settings(describe_seconds=300)
    streaming.write(kiln_toml)
    return streaming.ground(client)


def kiln(*arguments: str) -> int:
    return cli.run(list(arguments))


def published(client: Client, version: str) -> None:
    """A version as an import leaves it: the AMI, the records, the AppStream image."""
    made = streaming.windows_ami(client, version)
    streaming.import_role(client) if version == V1 else None
    body, proof = released.documents("slicer", version, weights=None, slicer="real", settings_schemas=[])
    folder = f"images/slicer/{version}"
    for name, content in (("manifest.json", body), ("proof.json", proof), ("sbom.cdx.json", b"{}")):
        released.put(client, f"{folder}/{name}", content)
    appstream = client("appstream")
    appstream.create_imported_image(
        Name=streaming.name(version),
        SourceAmiId=made,
        IamRoleArn=streaming.ROLE,
        Tags={"kiln:project": "kiln", "kiln:image": "slicer", "kiln:version": version, "kiln:run": "test"},
    )
    for _ in range(200):
        if appstream.describe_images(Names=[streaming.name(version)])["Images"][0]["State"] == "AVAILABLE":
            return
    raise AssertionError("the import does not end")


def images(client: Client) -> set[str]:
    return {each["Name"] for each in client("appstream").describe_images(Type="PRIVATE")["Images"]}


def amis(client: Client) -> set[str]:
    return {each["Name"] for each in client("ec2").describe_images(Owners=["self"])["Images"]}


def test_prune_removes_both_images_of_a_version(client: Client, emulator: Emulator) -> None:
    published(client, V1)
    published(client, V2)
    since = len(emulator.requests())
    assert kiln("prune", "slicer", "--keep", "1") == Exit.DONE
    assert images(client) == amis(client) == {streaming.name(V2)}
    assert all(each["valid"] for each in emulator.requests(since))
    assert kiln("prune", "slicer", "--keep", "1", "--exit-code") == Exit.NOTHING_TO_DO


def test_what_a_fleet_runs_stays(client: Client, ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    published(client, V1)
    published(client, V2)
    streaming.put(
        client, ground, image=streaming.name(V1), instance_type="GeneralPurpose.large", running=False
    )
    assert kiln("prune", "slicer", "--keep", "1", "--exit-code") == Exit.NOTHING_TO_DO
    assert "stays: AppStream fleet kiln-readers, STOPPED" in capsys.readouterr().out
    assert kiln("revoke", f"slicer@{V1}", "--why", "it is bad") == Exit.DONE
    assert "still needs it: AppStream fleet kiln-readers" in capsys.readouterr().out


def test_revoke_moves_the_name_back_and_tags_the_image(client: Client) -> None:
    published(client, V1)
    published(client, V2)
    for version in (V1, V2):
        assert kiln("promote", f"slicer@{version}", "stable") == Exit.DONE
    assert kiln("revoke", f"slicer@{V2}", "--why", "a hole (CVE-1)") == Exit.DONE
    value = client("ssm").get_parameter(Name="/kiln/slicer/stable")["Parameter"]["Value"]
    assert value == streaming.name(V1)
    appstream = client("appstream")
    arn = appstream.describe_images(Names=[streaming.name(V2)])["Images"][0]["Arn"]
    assert appstream.list_tags_for_resource(ResourceArn=arn)["Tags"]["kiln:revoked"] == "a hole -CVE-1-"
    assert kiln("revoke", f"slicer@{V2}", "--why", "a hole (CVE-1)", "--exit-code") == Exit.NOTHING_TO_DO
    record = client("s3").get_object(Bucket=BUCKET, Key=f"kiln/images/slicer/{V2}/revoked.json")
    assert json.loads(record["Body"].read())["why"] == "a hole (CVE-1)"


@pytest.mark.parametrize("state", ["RUNNING", "STOPPED", "FAILED"])
def test_sweep_ends_a_builder_that_bills(
    client: Client, ground: Ground, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    appstream = client("appstream")
    for name, tags in (
        ("kiln-left", {"kiln:run": "builder-20260101T000000Z-abcdef", "kiln:project": "kiln"}),
        ("kiln-foreign", {"kiln:run": "x", "kiln:project": "other"}),
        ("by-hand", {"team": "imaging"}),
    ):
        appstream.create_image_builder(
            Name=name,
            ImageName=NATIVE,
            InstanceType="stream.standard.large",
            VpcConfig={"SubnetIds": list(ground.subnets[:1]), "SecurityGroupIds": [ground.security_group]},
            Tags=tags,
        )
    emulator.admin(
        "appstream_state", account=ACCOUNT, region=REGION, kind="builders", resource="kiln-left", state=state
    )

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(days=3)

    assert kiln("sweep", "--exit-code") == Exit.NOTHING_TO_DO, "it is of today"
    monkeypatch.setattr(launch.sweep, "datetime", Later)
    assert kiln("sweep") == Exit.DONE
    left = {each["Name"] for each in appstream.describe_image_builders()["ImageBuilders"]}
    assert left == {"kiln-foreign", "by-hand"}
