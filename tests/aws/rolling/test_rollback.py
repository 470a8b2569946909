"""kiln rollback of a group: in the middle, at the end, twice, and to an image that reads older settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launch import settings
from tests.aws import rollouts
from tests.aws.account import REGION, Seeded
from tests.aws.rollouts import FIRST, SECOND, Capture, Clients, Put, error_of, kiln, planned
from tests.emulator.handle import Emulator

NEWER = """
[schema.1]
keys = ["studies", "app", "models", "device", "workers", "efs", "auth", "labels", "metrics"]

[schema.2]
keys = ["studies", "app", "models", "device", "workers", "efs", "auth", "labels", "metrics", "scratch"]

[[downgrade]]
schema = 2
key = "scratch"
without = "what the image has is used"
"""


def runs(client: Clients) -> tuple[str, set[str]]:
    group = rollouts.group(client)
    found = {each["LaunchTemplate"]["Version"] for each in group["Instances"]}
    return group["LaunchTemplate"]["Version"], found


def document(client: Clients, template: str, version: str) -> dict[str, Any]:
    data = rollouts.version_data(client, template, version)["LaunchTemplateData"]
    found = settings.found(settings.decoded(data.get("UserData")))
    assert found is not None
    return found.as_data()


def test_a_refresh_is_taken_back_in_the_middle_and_a_second_rollback_finds_it_done(
    ready: Put,
    client: Clients,
    emulator: Emulator,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    emulator.settings(describe_seconds=20)
    assert kiln("rollback", "annotators") == 1
    assert "no record of an apply" in error_of(capsys)[0]
    with monkeypatch.context() as patch:
        rollouts.at_look(patch, 4, rollouts.interrupt)
        assert kiln("apply", "annotators") == 130
    plan = planned(capsys, "rollback", "annotators", "--plan")
    assert plan["steps"][-2]["does"].startswith("roll back the refresh")
    with monkeypatch.context() as patch:
        rollouts.at_look(patch, 1, rollouts.interrupt)
        assert kiln("rollback", "annotators") == 130
    assert kiln("rollback", "annotators") == 0
    assert runs(client) == ("1", {"1"})
    sent = [each["operation"] for each in emulator.mutating()]
    assert sent.count("RollbackInstanceRefresh") == 1
    found = [(each["kind"], each["event"], each["outcome"]) for each in rollouts.rollouts(client)]
    assert found == [
        ("apply", "started", None),
        ("rollback", "started", None),
        ("rollback", "ended", "done"),
    ]
    since = len(emulator.requests())
    assert kiln("rollback", "annotators") == 0
    assert emulator.mutating(since) == []


def test_a_version_is_rolled_back_with_its_settings_downgraded(
    ready: Put,
    seeded: Seeded,
    client: Clients,
    emulator: Emulator,
    kiln_toml: Path,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert kiln("apply", "annotators") == 0
    table = tmp_path / "settings.toml"
    table.write_text(NEWER)
    monkeypatch.setattr(settings, "FILE", table)
    newer = 'settings = { studies = "/mnt/studies/liver", scratch = "/var/tmp" }'
    kiln_toml.write_text(
        kiln_toml.read_text().replace('settings = { studies = "/mnt/studies/spleen" }', newer)
    )
    rollouts.promote(client, rollouts.put(client, SECOND, key=seeded.keys[REGION], settings_schemas=[1, 2]))
    assert kiln("apply", "annotators") == 0
    assert runs(client) == ("3", {"3"})
    wanted = {"schema": 2, "studies": "/mnt/studies/liver", "scratch": "/var/tmp"}
    assert document(client, seeded.template, "3") == wanted

    alarm = {"AlarmName": seeded.alarm, "StateValue": "ALARM", "StateReason": "why one goes back"}
    client("cloudwatch").set_alarm_state(**alarm)
    plan = planned(capsys, "rollback", "annotators", "--plan")
    assert "settings: scratch is left out in schema 1: what the image has is used" in plan["notes"]
    assert "AlarmSpecification" not in plan["refresh"] and plan["refresh"]["AutoRollback"] is False
    assert kiln("rollback", "annotators") == 0
    assert runs(client) == ("4", {"4"})
    assert rollouts.amis(client) == {ready.ami}
    # What was set since stays set, in the schema that the earlier image reads.
    assert document(client, seeded.template, "4") == {"schema": 1, "studies": "/mnt/studies/liver"}
    since = len(emulator.requests())
    assert kiln("rollback", "annotators") == 0
    assert emulator.mutating(since) == []
    # Forward again is an apply's business, and what it would do differs by the image alone.
    assert planned(capsys)["version"] == {"before": FIRST, "after": SECOND}


def test_what_ran_before_the_first_apply_comes_back_though_it_is_none_of_ours(
    ready: Put, seeded: Seeded, client: Clients, emulator: Emulator, capsys: Capture
) -> None:
    assert kiln("apply", "annotators") == 0
    assert kiln("rollback", "annotators") == 0
    assert runs(client) == ("1", {"1"})
    assert rollouts.amis(client) == {seeded.image}
    since = len(emulator.requests())
    assert kiln("rollback", "annotators") == 0
    assert emulator.mutating(since) == []
    spec = {"LaunchTemplateId": seeded.template, "Version": "2"}
    other = client("ec2").create_launch_template_version(
        LaunchTemplateId=seeded.template,
        SourceVersion="1",
        LaunchTemplateData={"InstanceType": "g4dn.xlarge"},
    )["LaunchTemplateVersion"]["VersionNumber"]
    client("autoscaling").update_auto_scaling_group(
        AutoScalingGroupName=seeded.group, LaunchTemplate=spec | {"Version": str(other)}
    )
    assert kiln("rollback", "annotators") == 3
    assert "neither brought nor replaced" in capsys.readouterr().out
