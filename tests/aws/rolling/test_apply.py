"""kiln plan and kiln apply on an Auto Scaling group: the way there, and everything that stands in it.

A test goes through several things, since making an account and rolling a group over takes most of its time.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from launch import names
from launch.cloud import Cloud
from launch.settings import PLACE
from tests.aws import rollouts
from tests.aws.account import OTHER, REGION, Seeded
from tests.aws.rollouts import FIRST, SECOND, THIRD, Capture, Clients, Put, error_of, kiln, planned
from tests.emulator.handle import Emulator


def base(client: Clients, seeded: Seeded, data: dict[str, Any]) -> None:
    """Let the group name another version of its template, without replacing instances."""
    made = client("ec2").create_launch_template_version(
        LaunchTemplateId=seeded.template, SourceVersion="1", LaunchTemplateData=data
    )["LaunchTemplateVersion"]["VersionNumber"]
    spec = {"LaunchTemplateId": seeded.template, "Version": str(made)}
    client("autoscaling").update_auto_scaling_group(AutoScalingGroupName=seeded.group, LaunchTemplate=spec)


# ---- the way there


def test_a_group_is_brought_to_what_its_channel_names(
    ready: Put, seeded: Seeded, client: Clients, emulator: Emulator, capsys: Capture
) -> None:
    since = len(emulator.requests())
    plan = planned(capsys)
    assert emulator.mutating(since) == []
    assert plan["refusals"] == []
    announced = {request for step in plan["steps"] for request in step["requests"]}
    since = len(emulator.requests())
    assert kiln("apply", "annotators") == 0
    sent = {f"{each['service']}:{each['operation']}@{each['region']}" for each in emulator.mutating(since)}
    assert sent and sent <= announced
    assert all(each["valid"] for each in emulator.requests())
    told = capsys.readouterr().err
    assert re.search(r"InProgress \d+ % · v2: \d/\d · v1: \d · checkpoint .* · alarms ok · \d+:\d\d", told), (
        told
    )

    group = rollouts.group(client)
    assert group["LaunchTemplate"]["Version"] == "2"
    assert {each["LaunchTemplate"]["Version"] for each in group["Instances"]} == {"2"}
    assert len(group["Instances"]) == 4
    assert rollouts.amis(client) == {ready.ami}
    _says_what_it_must(client, seeded, ready)
    started, ended = rollouts.rollouts(client)
    assert (started["event"], ended["event"], ended["outcome"]) == ("started", "ended", "done")
    assert (started["before"]["image"], started["before"]["template_version"]) == (seeded.image, 1)
    assert started["after"]["settings"] == {"schema": 1, "studies": "/mnt/studies/spleen"}
    assert ended["after"]["template_version"] == 2

    since = len(emulator.requests())
    assert kiln("apply", "annotators", "--exit-code") == 4
    assert emulator.mutating(since) == []

    put = rollouts.put(client, SECOND, key=seeded.keys[REGION], torch="2.10.1+cu128")
    rollouts.promote(client, put)
    _tells_all(planned(capsys))
    kiln("plan", "annotators")
    shown = capsys.readouterr().out
    assert "contents: torch 2.10.0+cu128 → 2.10.1+cu128" in shown
    assert "pauses of 4 min at 20, 50, 100 %" in shown


def _says_what_it_must(client: Clients, seeded: Seeded, put: Put) -> None:
    made = rollouts.version_data(client, seeded.template, "2")
    data = made["LaunchTemplateData"]
    assert made["VersionDescription"].startswith(f"monai-label@{FIRST} from 1 ")
    assert data["ImageId"] == put.ami
    assert (data["MetadataOptions"]["HttpTokens"], data["InstanceType"]) == ("required", "g5.xlarge")
    assert data["SecurityGroupIds"] == [seeded.security_group]
    tags = {each["ResourceType"]: names.read(each["Tags"]) for each in data["TagSpecifications"]}
    assert tags["instance"]["service"] == "annotators"
    for kind in ("instance", "volume"):
        assert tags[kind][names.VERSION] == FIRST
        assert tags[kind][names.TARGET] == "annotators"
    (entry,) = yaml.safe_load(base64.b64decode(data["UserData"]))["write_files"]
    assert (entry["path"], entry["content"]) == (PLACE, 'schema = 1\nstudies = "/mnt/studies/spleen"\n')


def _tells_all(plan: dict[str, Any]) -> None:
    assert plan["version"] == {"before": FIRST, "after": SECOND}
    assert plan["contents"]["facts"] == {"torch": {"before": "2.10.0+cu128", "after": "2.10.1+cu128"}}
    assert {each["check"] for each in plan["compat"]} >= {"driver-gpu", "wheel-gpu", "driver-support"}
    assert plan["cost"]["now"] == plan["cost"]["after"]
    assert [each["stage"] for each in plan["steps"]] == [
        "lock",
        "template",
        "record",
        "refresh",
        "recorded",
    ]
    assert plan["refresh"]["CheckpointPercentages"] == [20, 50, 100]
    assert plan["refresh"]["AutoRollback"] is True and plan["refresh"]["BakeTime"] == 240
    (quota,) = plan["quota"]
    assert (quota["quota"], quota["needs_more"]) == ("L-DB2E81BA", 16)


def test_a_mixed_policy_and_a_warm_pool_are_kept_and_latest_is_pinned_first(
    ready: Put, seeded: Seeded, client: Clients, emulator: Emulator, capsys: Capture
) -> None:
    scaling = client("autoscaling")
    spread = {"OnDemandPercentageAboveBaseCapacity": 50, "OnDemandBaseCapacity": 1}
    policy = {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": {"LaunchTemplateId": seeded.template, "Version": "$Latest"},
            "Overrides": [{"InstanceType": "g5.xlarge"}, {"InstanceType": "g4dn.xlarge"}],
        },
        "InstancesDistribution": spread,
    }
    scaling.update_auto_scaling_group(AutoScalingGroupName=seeded.group, MixedInstancesPolicy=policy)
    scaling.put_warm_pool(AutoScalingGroupName=seeded.group, MinSize=1, PoolState="Stopped")
    plan = planned(capsys)
    assert plan["refusals"] == []
    assert {each["name"] for each in plan["quota"]} == {"On-Demand G and VT", "Spot G and VT"}
    assert any("warm pool" in note for note in plan["notes"])
    since = len(emulator.requests())
    assert kiln("apply", "annotators") == 0
    sent = [each["operation"] for each in emulator.mutating(since)]
    assert sent.index("UpdateAutoScalingGroup") < sent.index("CreateLaunchTemplateVersion")
    group = rollouts.group(client)
    kept = group["MixedInstancesPolicy"]
    assert kept["LaunchTemplate"]["LaunchTemplateSpecification"]["Version"] == "2"
    assert [each["InstanceType"] for each in kept["LaunchTemplate"]["Overrides"]] == [
        "g5.xlarge",
        "g4dn.xlarge",
    ]
    assert kept["InstancesDistribution"].items() >= spread.items()
    assert group["WarmPoolConfiguration"]["PoolState"] == "Stopped"
    assert rollouts.amis(client) == {ready.ami}
    assert kiln("apply", "annotators", "--exit-code") == 4


def test_the_root_volume_is_the_images_and_other_settings_alone_are_rolled_out(
    ready: Put, seeded: Seeded, client: Clients, kiln_toml: Path, capsys: Capture
) -> None:
    old = client("ec2").describe_images(ImageIds=[seeded.image])["Images"][0]["BlockDeviceMappings"][0]["Ebs"]
    mapping = {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": old["SnapshotId"], "VolumeSize": 60}}
    base(client, seeded, {"BlockDeviceMappings": [mapping]})
    rate = "bake_minutes = 4\nvolume_initialization_mibps = 200"
    kiln_toml.write_text(kiln_toml.read_text().replace("bake_minutes = 4", rate))
    assert kiln("apply", "annotators") == 0
    (made,) = rollouts.version_data(client, seeded.template, "3")["LaunchTemplateData"]["BlockDeviceMappings"]
    assert made == {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 60, "VolumeInitializationRate": 200}}

    kiln_toml.write_text(kiln_toml.read_text().replace("/mnt/studies/spleen", "/mnt/studies/liver"))
    plan = planned(capsys, "plan", "annotators", "--version", FIRST)
    assert plan["contents"] == {}
    assert "settings: studies changed" in plan["notes"]
    assert kiln("apply", "annotators", "--version", FIRST) == 0
    assert rollouts.rollouts(client)[-1]["after"]["settings"]["studies"] == "/mnt/studies/liver"


# ---- stopped, killed, twice


def test_answers_are_lost_ctrl_c_is_pressed_and_the_next_run_attaches(
    ready: Put,
    seeded: Seeded,
    client: Clients,
    emulator: Emulator,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    emulator.settings(describe_seconds=20)
    lost = ("StartInstanceRefresh", "CreateLaunchTemplateVersion")
    emulator.faults([{"operation": operation, "fault": "lost", "times": 1} for operation in lost])
    with monkeypatch.context() as patch:
        rollouts.at_look(patch, 2, rollouts.interrupt)
        assert kiln("apply", "annotators") == 130
    told = capsys.readouterr().err
    assert "Go on with: kiln apply annotators" in told
    assert "AWS goes on with the refresh; kiln rollback annotators takes it back" in told
    plan = planned(capsys)
    assert "attach to the refresh" in plan["steps"][-2]["does"]
    emulator.settings(describe_seconds=120)
    assert kiln("apply", "annotators") == 0
    versions = client("ec2").describe_launch_template_versions(LaunchTemplateId=seeded.template)
    assert len(versions["LaunchTemplateVersions"]) == 2
    scaling = client("autoscaling")
    refreshes = scaling.describe_instance_refreshes(AutoScalingGroupName=seeded.group)["InstanceRefreshes"]
    assert [each["Status"] for each in refreshes] == ["Successful"]
    assert [each["event"] for each in rollouts.rollouts(client)] == ["started", "ended"]
    assert rollouts.amis(client) == {ready.ami}


# ---- bad images


class Serving:
    """Counts, at every look of the run, the instances of version 1 that are in service and healthy."""

    def __init__(self, client: Clients, patch: pytest.MonkeyPatch) -> None:
        self.least = 99
        self._client = client
        wait = Cloud.wait

        def looked(cloud: Cloud, seconds: float | None = None) -> None:
            self._look()
            wait(cloud, seconds)

        patch.setattr(Cloud, "wait", looked)

    def _look(self) -> None:
        good = [
            each
            for each in rollouts.group(self._client)["Instances"]
            if (each["LifecycleState"], each["HealthStatus"]) == ("InService", "Healthy")
            and each["LaunchTemplate"]["Version"] == "1"
        ]
        self.least = min(self.least, len(good))


@pytest.mark.parametrize(
    ("health", "least", "why"),
    [
        ("unhealthy", 4, "New instances do not pass their health checks"),
        # EC2 calls it healthy and so does Auto Scaling: an old one has gone when we see that it is not.
        ("target-unhealthy", 3, "new instances healthy, and the old ones are"),
    ],
)
def test_a_bad_image_is_rolled_back_and_the_old_one_serves_throughout(
    ready: Put,
    client: Clients,
    emulator: Emulator,
    kiln_toml: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    health: str,
    least: int,
    why: str,
) -> None:
    emulator.settings(describe_seconds=60)
    # Longer than the grace in which Auto Scaling passes over bad health.
    kiln_toml.write_text(kiln_toml.read_text().replace("warmup_minutes = 1", "warmup_minutes = 10"))
    client("ec2").create_tags(Resources=[ready.ami], Tags=[{"Key": "kiln-test:health", "Value": health}])
    channel = client("ssm").get_parameter(Name="/kiln/monai-label/stable")["Parameter"]
    serving = Serving(client, monkeypatch)
    assert kiln("apply", "annotators") == 1
    what, hint = error_of(capsys)
    assert f"did not come to monai-label@{FIRST}" in what
    assert re.search(r"not healthy: i-[0-9a-f]+ \(", what), what
    assert why in what
    assert "it was rolled back, 4 instances of" in hint
    assert f"kiln revoke monai-label@{FIRST}" in hint
    assert serving.least >= least
    group = rollouts.group(client)
    assert group["LaunchTemplate"]["Version"] == "1"
    assert [each["LaunchTemplate"]["Version"] for each in group["Instances"]] == ["1"] * 4
    assert client("ssm").get_parameter(Name="/kiln/monai-label/stable")["Parameter"] == channel
    assert rollouts.rollouts(client)[-1]["outcome"] == "rolled back"


def test_an_image_that_is_revoked_in_the_middle_is_taken_back(
    ready: Put, client: Clients, emulator: Emulator, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.settings(describe_seconds=30)
    tag = [{"Key": names.REVOKED, "Value": "a hole in torch"}]
    rollouts.at_look(monkeypatch, 2, lambda: client("ec2").create_tags(Resources=[ready.ami], Tags=tag))
    assert kiln("apply", "annotators") == 1
    what, hint = error_of(capsys)
    assert "the image was revoked: a hole in torch" in what
    assert "it was rolled back, 4 instances of" in hint
    group = rollouts.group(client)
    assert {each["LaunchTemplate"]["Version"] for each in group["Instances"]} == {"1"}
    ended = rollouts.rollouts(client)[-1]
    assert (ended["outcome"], ended["reason"]) == ("rolled back", "the image was revoked: a hole in torch")


# ---- what stands in the way: two lines each, or a refusal with its reason, and nothing changed


def test_what_cannot_be_meant_is_told_in_two_lines(
    ready: Put, kiln_toml: Path, emulator: Emulator, capsys: Capture
) -> None:
    text = kiln_toml.read_text()
    head, mark, tail = text.partition("[target.annotators]")
    cases = (
        ("anotators", text, 2, "no target 'anotators'", "did you mean 'annotators'?"),
        ("annotators", text.replace("[20, 50, 100]", "[20, 50]"), 2, "checkpoints must end at 100", "100"),
        (
            "annotators",
            text.replace('group = "kiln-annotators"', 'group = "kiln-anotators"'),
            1,
            "there is no Auto Scaling group kiln-anotators in us-east-1",
            "did you mean 'kiln-annotators'?",
        ),
        (
            "annotators",
            f"{head}{mark}{tail.replace('us-east-1', 'ap-east-1', 1)}",
            1,
            "ap-east-1 is not enabled",
            "enable it",
        ),
    )
    emulator.settings(regions_disabled=["ap-east-1"])
    since = len(emulator.requests())
    for target, toml, exit_code, what, hint in cases:
        kiln_toml.write_text(toml)
        capsys.readouterr()
        assert kiln("apply", target) == exit_code
        told = capsys.readouterr().err.strip().splitlines()
        assert len(told) == 2, told
        assert what in told[0] and hint in told[1], told
    assert emulator.mutating(since) == []


def test_every_reason_against_a_rollout_is_told_at_once(
    ready: Put, seeded: Seeded, client: Clients, emulator: Emulator, capsys: Capture
) -> None:
    emulator.settings(quotas={"ec2/L-DB2E81BA": 0, "ec2/L-417A185B": 0})
    us = {"AWS": "arn:aws:iam::111122223333:root"}
    statement = {"Effect": "Allow", "Principal": us, "Action": "kms:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    client("kms").put_key_policy(KeyId=seeded.keys[REGION], PolicyName="default", Policy=policy)
    client("ec2").create_tags(Resources=[ready.ami], Tags=[{"Key": names.REVOKED, "Value": "a hole"}])
    client("cloudwatch").set_alarm_state(AlarmName=seeded.alarm, StateValue="ALARM", StateReason="test")
    scaling = client("autoscaling")
    scaling.suspend_processes(AutoScalingGroupName=seeded.group, ScalingProcesses=["Launch"])
    instance = rollouts.group(client)["Instances"][0]["InstanceId"]
    scaling.set_instance_protection(
        AutoScalingGroupName=seeded.group, InstanceIds=[instance], ProtectedFromScaleIn=True
    )
    base(client, seeded, {"InstanceType": "p3dn.24xlarge"})
    since = len(emulator.requests())
    plan = planned(capsys)
    found = {each["check"]: each["what"] for each in plan["refusals"]}
    wanted = {
        "vcpu-quota": "4 instances more at once need 384 vCPUs of On-Demand P",
        "key-auto-scaling": "Auto Scaling of account 111122223333 may not use",
        "revoked": "is revoked: a hole",
        "alarm": "is in ALARM now",
        "suspended": "the process Launch of kiln-annotators is suspended",
        "wheel-gpu": "p3dn.24xlarge",
    }
    assert not [check for check, words in wanted.items() if words not in found.get(check, "")], found
    (note,) = [each for each in plan["notes"] if "protected from scale-in" in each]
    assert note.startswith("1 of 4 instances") and "after an hour" in note and instance in note
    assert kiln("apply", "annotators") == 3
    client("cloudwatch").delete_alarms(AlarmNames=[seeded.alarm])
    told = {each["what"] for each in planned(capsys)["refusals"]}
    assert "there is no alarm kiln-annotators-5xx in us-east-1" in told
    scaling.resume_processes(AutoScalingGroupName=seeded.group)
    scaling.start_instance_refresh(AutoScalingGroupName=seeded.group)
    (refusal,) = planned(capsys)["refusals"]
    assert "another refresh works on kiln-annotators" in refusal["what"]
    assert "kiln rollback annotators" in refusal["hint"]
    sent = {each["operation"] for each in emulator.mutating(since)}
    assert sent == {"DeleteAlarms", "ResumeProcesses", "StartInstanceRefresh"}  # the test's own


def test_an_image_or_settings_that_cannot_be_are_refused(
    ready: Put, seeded: Seeded, client: Clients, emulator: Emulator, kiln_toml: Path, capsys: Capture
) -> None:
    def refused(check: str, words: str) -> None:
        (refusal,) = planned(capsys)["refusals"]
        assert refusal["check"] == check and words in refusal["what"], refusal

    ec2, text = client("ec2"), kiln_toml.read_text()
    kiln_toml.write_text(text.replace("{ studies =", "{ studes ="))
    refused("settings", "settings.studes is no setting")
    kiln_toml.write_text(text)
    base(client, seeded, {"UserData": base64.b64encode(b"#!/bin/sh\necho hello\n").decode()})
    refused("settings", "no cloud-config")
    ec2.create_tags(Resources=[ready.ami], Tags=[{"Key": names.MANIFEST_DIGEST, "Value": "0" * 64}])
    refused("version", "another manifest")
    rollouts.promote(client, rollouts.put(client, SECOND, settings_schemas=[]))
    refused("settings", "reads no schema")
    rollouts.promote(client, Put("", seeded.image, ""))
    refused("version", "is no version of monai-label")
    theirs = rollouts.put(client, THIRD, account=OTHER)
    client("ec2", REGION, OTHER).modify_image_attribute(
        ImageId=theirs.ami, LaunchPermission={"Add": [{"UserId": "111122223333"}]}
    )
    rollouts.promote(client, theirs)
    refused("version", "belongs to account 222233334444")
    client("ssm").delete_parameter(Name="/kiln/monai-label/stable")
    refused("version", "the channel stable of monai-label names nothing")
    since = len(emulator.requests())
    assert kiln("apply", "annotators") == 3
    assert kiln("apply", "annotators", "--version", THIRD) == 3
    assert emulator.mutating(since) == []
