"""kiln status: what runs where, what the channels name, and what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.aws import rollouts
from tests.aws.account import REGION, Seeded
from tests.aws.rollouts import FIRST, SECOND, Capture, Clients, Put, kiln, planned
from tests.emulator.handle import Emulator


def _state(capsys: Capture) -> tuple[dict[str, Any], list[str]]:
    found = planned(capsys, "status")
    (group,) = [each for each in found["targets"] if each["target"] == "annotators"]
    return group, group["drift"]


def test_what_runs_where_and_what_differs(
    ready: Put, seeded: Seeded, kiln_toml: Path, client: Clients, emulator: Emulator, capsys: Capture
) -> None:
    text = kiln_toml.read_text()
    kiln_toml.write_text(text[: text.index("[target.readers]")] + text[text.index("[[waiver]]") :])
    first = ready
    since = len(emulator.requests())
    group, drift = _state(capsys)
    assert emulator.mutating(since) == []
    assert (group["version"], group["channel"]["version"], group["last"]) == (None, FIRST, None)
    assert any("is no version of ours" in line for line in drift)
    assert f"the channel stable names {FIRST}: kiln apply annotators" in drift

    assert kiln("apply", "annotators") == 0
    group, drift = _state(capsys)
    assert (group["version"], group["serving"], drift) == (FIRST, 4, [])
    assert group["last"]["outcome"] == "done"
    (channel,) = planned(capsys, "status")["channels"]
    assert channel["regions"] == {REGION: {"value": first.ami, "version": FIRST}}
    assert channel["partial"] is True  # eu-west-1 does not have it

    kiln_toml.write_text(kiln_toml.read_text().replace("/mnt/studies/spleen", "/mnt/studies/liver"))
    rollouts.promote(client, rollouts.put(client, SECOND))
    data = {"MetadataOptions": {"HttpTokens": "optional"}}
    made = client("ec2").create_launch_template_version(
        LaunchTemplateId=seeded.template, SourceVersion="2", LaunchTemplateData=data
    )["LaunchTemplateVersion"]["VersionNumber"]
    client("autoscaling").update_auto_scaling_group(
        AutoScalingGroupName=seeded.group,
        LaunchTemplate={"LaunchTemplateId": seeded.template, "Version": str(made)},
    )
    client("ec2").create_tags(Resources=[first.ami], Tags=[{"Key": "kiln:revoked", "Value": "a hole"}])
    _, drift = _state(capsys)
    assert {
        f"monai-label@{FIRST} is revoked: a hole",
        "instances run other versions of kiln-annotators than 3: 4 on version 2",
        f"the channel stable names {SECOND}: kiln apply annotators",
        "the settings differ from kiln.toml's",
        "IMDSv2 is not required",
    } <= set(drift)
    kiln("status")
    shown = capsys.readouterr().out
    assert f"monai-label@{FIRST}" in shown and "4 of 4 serve" in shown
    assert "drift annotators: IMDSv2 is not required" in shown
    assert "partial monai-label stable" in shown

    client("autoscaling").delete_auto_scaling_group(AutoScalingGroupName=seeded.group, ForceDelete=True)
    assert kiln("status") == 1
    assert "there is no Auto Scaling group kiln-annotators" in capsys.readouterr().out
