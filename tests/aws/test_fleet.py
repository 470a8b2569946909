"""A fleet comes to what its channel names: live where it may, stopped where it must be, moved to another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiln.config import Config
from kiln.errors import Exit, KilnError, RefusedError
from launch import apply, fleet, fleet_plan
from launch.cloud import Cloud
from launch.execute import carry_out
from launch.plan import Plan
from launch.records import Records, Revocation, now, written
from tests.aws import streaming
from tests.aws.conftest import ACCOUNT, REGION
from tests.aws.streaming import FIRST, SECOND, Ground, name, reach, sent, state
from tests.emulator.handle import Emulator

Clients = Callable[..., Any]

GENERAL = "GeneralPurpose.m7i.xlarge"


def planned(cloud: Cloud, config: Config, *, version: str | None = None, allow_stop: bool = False) -> Plan:
    return fleet_plan.plan(cloud, config, "readers", version, allow_stop)


def refusals(made: Plan) -> dict[str, str]:
    for each in made.refusals:
        assert "\n" not in each.what + each.hint
    return {each.check: f"{each.what} | {each.hint}" for each in made.refusals}


def stages(made: Plan) -> list[str]:
    return [step.stage for step in made.steps]


def imported(client: Clients, version: str) -> None:
    """An AppStream image of a version that is there already."""
    ami = streaming.windows_ami(client, version)
    appstream = client("appstream")
    appstream.create_imported_image(Name=name(version), SourceAmiId=ami, IamRoleArn=streaming.ROLE)
    for _ in range(300):
        if appstream.describe_images(Names=[name(version)])["Images"][0]["State"] == "AVAILABLE":
            return
    raise AssertionError(version)


@pytest.fixture
def ground(client: Clients, emulator: Emulator) -> Ground:
    # Each look at AppStream lets five minutes go by: a test need not look as often as a run does.
    emulator.settings(describe_seconds=300)
    return streaming.ground(client)


@pytest.fixture
def config(kiln_toml: Path, ground: Ground) -> Config:
    return streaming.write(kiln_toml)


@pytest.fixture
def custom(client: Clients, ground: Ground) -> None:
    """A fleet of instances of imported images, on the first version."""
    streaming.import_role(client)
    imported(client, FIRST)
    streaming.put(client, ground, image=name(FIRST), instance_type=GENERAL)


def test_the_image_is_imported_and_changed_while_the_fleet_runs(
    cloud: Cloud, config: Config, client: Clients, emulator: Emulator, custom: None
) -> None:
    streaming.windows_ami(client, SECOND)
    streaming.promote(client, SECOND)
    before = len(emulator.requests())
    made = planned(cloud, config)
    assert not emulator.mutating(before), "a plan changes nothing"
    assert stages(made) == ["import", "fleet"] and not made.refusals
    assert made.facts["image"] == {"before": name(FIRST), "after": name(SECOND)}
    assert made.facts["version"] == {"before": FIRST, "after": SECOND}
    assert any("open keep the old image" in note for note in made.notes)
    assert made.facts["contents"] is None, "neither version has a manifest here, and nothing is made up"
    assert set(made.facts["cost"]) == {"now", "after"} and any("cost a month" in note for note in made.notes)
    announced = {request.operation for step in made.steps for request in step.requests}
    assert carry_out(made, cloud) is Exit.DONE
    done = sent(emulator, before)
    assert done == ["CreateImportedImage", "UpdateFleet"] and set(done) <= announced
    found = state(client, "kiln-readers")
    assert found["State"] == "RUNNING" and found["ImageName"] == name(SECOND)
    again = planned(cloud, config)
    assert not again.steps and not again.refusals
    # And back, to a version by its name: live as well, by the command itself, with lock and records.
    assert apply.run("readers", FIRST) == Exit.DONE
    assert state(client, "kiln-readers")["ImageName"] == name(FIRST)
    assert all(each["valid"] for each in emulator.requests(before))


def test_what_may_change_live_does_and_what_may_not_needs_a_stop(
    cloud: Cloud, kiln_toml: Path, client: Clients, emulator: Emulator, ground: Ground, custom: None
) -> None:
    streaming.promote(client, FIRST)
    live = 'display_name = "Radiology"\ncapacity = 3\nidle_minutes = 20\ndisconnect_minutes = 5\n'
    config = streaming.write(kiln_toml, target=live)
    before = len(emulator.requests())
    made = planned(cloud, config)
    assert stages(made) == ["fleet"] and "live" in made.steps[0].does
    assert {each["field"] for each in made.facts["changes"]} == {
        "display_name",
        "capacity",
        "idle_minutes",
        "disconnect_minutes",
    }
    carry_out(made, cloud)
    assert sent(emulator, before) == ["UpdateFleet"]
    found = state(client, "kiln-readers")
    assert found["DisplayName"] == "Radiology" and found["IdleDisconnectTimeoutInSeconds"] == 1200
    assert found["ComputeCapacityStatus"]["Desired"] == 3 and found["State"] == "RUNNING"

    emulator.admin("appstream_session", account=ACCOUNT, region=REGION, fleet="kiln-readers", user="ada")
    fixed = f'{live}session_hours = 8\nview = "DESKTOP"\nsubnets = ["{ground.subnets[0]}"]\n'
    config = streaming.write(kiln_toml, target=fixed)
    refused = refusals(planned(cloud, config))["needs-stop"]
    assert "1 sessions" in refused and "--allow-stop" in refused and "session hours" in refused
    made = planned(cloud, config, allow_stop=True)
    assert any("1 sessions on fleet kiln-readers end" in note for note in made.notes)
    before = len(emulator.requests())
    assert carry_out(made, cloud) is Exit.DONE
    assert sent(emulator, before) == [
        "TagResource",
        "StopFleet",
        "UpdateFleet",
        "StartFleet",
        "UntagResource",
    ]
    found = state(client, "kiln-readers")
    assert found["State"] == "RUNNING" and found["StreamView"] == "DESKTOP"
    assert found["MaxUserDurationInSeconds"] == 8 * 3600
    assert found["VpcConfig"] == {
        "SubnetIds": [ground.subnets[0]],
        "SecurityGroupIds": [ground.security_group],
    }
    assert not planned(cloud, config).steps


def test_a_fleet_that_was_stopped_for_a_change_is_started_whatever_happens(
    cloud: Cloud, kiln_toml: Path, client: Clients, emulator: Emulator, custom: None
) -> None:
    streaming.promote(client, FIRST)
    config = streaming.write(kiln_toml, target="session_hours = 8\n")
    emulator.faults(
        [
            {
                "service": "appstream",
                "operation": "UpdateFleet",
                "fault": "error",
                "code": "InvalidParameterCombinationException",
                "message": "no",
            }
        ]
    )
    with pytest.raises(KilnError, match="InvalidParameterCombinationException"):
        carry_out(planned(cloud, config, allow_stop=True), cloud)
    reach(client, "kiln-readers", "RUNNING")
    arn = state(client, "kiln-readers")["Arn"]
    assert fleet.RESTART not in client("appstream").list_tags_for_resource(ResourceArn=arn).get("Tags", {})

    # Killed between stop and start: the mark says that it is to run, and the next run starts it.
    appstream = client("appstream")
    appstream.tag_resource(ResourceArn=arn, Tags={fleet.RESTART: "killed"})
    appstream.stop_fleet(Name="kiln-readers")
    reach(client, "kiln-readers", "STOPPED")
    made = planned(cloud, config)
    assert [step.does.split(",")[0] for step in made.steps] == [
        "change fleet kiln-readers",
        "start fleet kiln-readers again",
    ]
    carry_out(made, cloud)
    assert state(client, "kiln-readers")["State"] == "RUNNING"
    assert not planned(cloud, config).steps


@pytest.fixture
def scaled(client: Clients, ground: Ground) -> None:
    """A fleet of AWS's own image, with scaling, beside an imported image that is ready."""
    streaming.import_role(client)
    imported(client, FIRST)
    streaming.put(client, ground)
    scaling = client("application-autoscaling")
    where = {
        "ServiceNamespace": "appstream",
        "ResourceId": "fleet/kiln-readers",
        "ScalableDimension": "appstream:fleet:DesiredCapacity",
    }
    scaling.register_scalable_target(**where, MinCapacity=1, MaxCapacity=5)
    metric = {"PredefinedMetricType": "AppStreamAverageCapacityUtilization"}
    scaling.put_scaling_policy(
        **where,
        PolicyName="half",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 50.0,
            "PredefinedMetricSpecification": metric,
        },
    )
    scaling.put_scheduled_action(
        **where,
        ScheduledActionName="morning",
        Schedule="cron(0 7 * * ? *)",
        ScalableTargetAction={"MinCapacity": 2},
    )


def test_an_imported_image_needs_a_new_fleet_and_the_stack_moves(
    cloud: Cloud, kiln_toml: Path, client: Clients, emulator: Emulator, scaled: None
) -> None:
    streaming.promote(client, FIRST)
    bare = streaming.write(kiln_toml)
    assert "Accelerated" in refusals(planned(cloud, bare, allow_stop=True))["instance-type"]
    config = streaming.write(kiln_toml, target=f'instance_type = "{GENERAL}"\n')
    emulator.admin("appstream_session", account=ACCOUNT, region=REGION, fleet="kiln-readers", user="ada")
    refused = refusals(planned(cloud, config))["needs-stop"]
    assert "1 sessions" in refused and "kiln-readers-custom" in refused
    made = planned(cloud, config, allow_stop=True)
    assert stages(made) == ["new fleet", "new fleet", "new fleet", "move", "old fleet"], made.as_json()
    before = len(emulator.requests())
    # Killed after the old fleet has left the stack: the stack shows none, and the marks tell what is left.
    emulator.faults(
        [
            {
                "service": "appstream",
                "operation": "AssociateFleet",
                "fault": "error",
                "code": "OperationNotPermittedException",
            }
        ]
    )
    with pytest.raises(KilnError, match="OperationNotPermittedException"):
        carry_out(made, cloud)
    appstream = client("appstream")
    assert appstream.list_associated_fleets(StackName="kiln-readers")["Names"] == []
    left = planned(cloud, config, allow_stop=True)
    assert "make fleet" not in " ".join(step.does for step in left.steps)
    assert carry_out(left, cloud) is Exit.DONE
    assert sent(emulator, before).count("CreateFleet") == 1
    new, old = state(client, "kiln-readers-custom"), state(client, "kiln-readers")
    assert new["State"] == "RUNNING" and old["State"] == "STOPPED"
    assert new["ImageName"] == name(FIRST) and new["InstanceType"] == GENERAL
    for kept in ("VpcConfig", "DisplayName", "MaxUserDurationInSeconds", "IdleDisconnectTimeoutInSeconds"):
        assert new[kept] == old[kept], kept
    assert new["ComputeCapacityStatus"]["Desired"] == 2
    tags = appstream.list_tags_for_resource(ResourceArn=new["Arn"])["Tags"]
    assert tags["team"] == "imaging" and not [
        key for key in tags if key.startswith((fleet.REPLACES, fleet.STACK))
    ]
    assert appstream.list_associated_fleets(StackName="kiln-readers")["Names"] == ["kiln-readers-custom"]
    scaling = client("application-autoscaling")
    target = scaling.describe_scalable_targets(
        ServiceNamespace="appstream", ResourceIds=["fleet/kiln-readers-custom"]
    )["ScalableTargets"][0]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 5)
    policies = scaling.describe_scaling_policies(
        ServiceNamespace="appstream", ResourceId="fleet/kiln-readers-custom"
    )["ScalingPolicies"]
    # moto answers with those of every fleet.
    mine = [policy for policy in policies if policy["ResourceId"] == "fleet/kiln-readers-custom"]
    assert [policy["PolicyName"] for policy in mine] == ["half"]
    actions = scaling.describe_scheduled_actions(
        ServiceNamespace="appstream", ResourceId="fleet/kiln-readers-custom"
    )["ScheduledActions"]
    assert [action["ScheduledActionName"] for action in actions] == ["morning"]
    fixed = streaming.write(kiln_toml, target=f'instance_type = "{GENERAL}"\ncapacity = 4\n')
    done = planned(cloud, fixed)
    assert not done.steps and not done.refusals and done.facts["fleet"] == "kiln-readers-custom"
    assert any("is passed over: Application Auto Scaling" in note for note in done.notes)
    assert all(each["valid"] for each in emulator.requests(before))


@pytest.mark.parametrize(
    "fault", [{"fault": "lost"}, {"fault": "throttle", "times": 2}], ids=["lost", "throttle"]
)
def test_a_move_survives_that_every_answer_is_lost_once_or_throttled_twice(
    fault: dict[str, Any],
    cloud: Cloud,
    kiln_toml: Path,
    client: Clients,
    emulator: Emulator,
    scaled: None,
) -> None:
    streaming.promote(client, FIRST)
    config = streaming.write(kiln_toml, target=f'instance_type = "{GENERAL}"\n')
    made = planned(cloud, config, allow_stop=True)
    asked = sorted({(each.service, each.operation) for step in made.steps for each in step.requests})
    emulator.faults([{"service": service, "operation": operation, **fault} for service, operation in asked])
    before = len(emulator.requests())
    assert carry_out(made, cloud) is Exit.DONE
    met = {rule["operation"] for rule in emulator.rules() if rule["met"]}
    assert met >= {
        "CreateFleet",
        "StartFleet",
        "DisassociateFleet",
        "AssociateFleet",
        "StopFleet",
        "UntagResource",
    }
    assert state(client, "kiln-readers-custom")["State"] == "RUNNING"
    assert state(client, "kiln-readers")["State"] == "STOPPED"
    shown = client("appstream").list_associated_fleets(StackName="kiln-readers")["Names"]
    assert shown == ["kiln-readers-custom"]
    assert len(client("appstream").describe_fleets()["Fleets"]) == 2
    done = planned(cloud, config)
    assert not done.steps and not done.refusals
    assert all(each["valid"] for each in emulator.requests(before))


def test_what_stands_in_the_way_is_told_before_anything_changes(
    cloud: Cloud, kiln_toml: Path, client: Clients, emulator: Emulator, ground: Ground
) -> None:
    config = streaming.write(kiln_toml)
    before = len(emulator.requests())
    assert "kiln.toml" in refusals(planned(cloud, config))["fleet"]
    streaming.import_role(client)
    imported(client, FIRST)
    streaming.put(client, ground, image=name(FIRST), instance_type=GENERAL)
    assert "kiln promote slicer@" in refusals(planned(cloud, config))["channel"]
    assert "kiln publish slicer@" in refusals(planned(cloud, config, version=SECOND))["appstream-image"]
    client("ssm").put_parameter(Name="/kiln/slicer/stable", Value="AppStream-other", Type="String")
    assert "no version of slicer" in refusals(planned(cloud, config))["channel"]
    streaming.promote(client, FIRST)

    graphics = streaming.write(kiln_toml, target='instance_type = "Accelerated.g4dn.xlarge"\n')
    assert "is 0: needed 2" in refusals(planned(cloud, graphics, allow_stop=True))["quota"]
    emulator.settings(quotas={"appstream2/L-KILN0001": 2})
    assert not refusals(planned(cloud, graphics, allow_stop=True))
    unknown = streaming.write(kiln_toml, target='instance_type = "Accelerated.g6.xlarge"\n')
    assert "graphics begin at 0" in refusals(planned(cloud, unknown, allow_stop=True))["quota"]
    wrong = streaming.write(kiln_toml, target='subnets = ["subnet-0123456789abcdef0"]\n')
    assert "subnet-0123456789abcdef0" in refusals(planned(cloud, wrong, allow_stop=True))["subnets"]
    role = streaming.write(kiln_toml, target=f'role = "arn:aws:iam::{ACCOUNT}:role/nobody"\n')
    assert "no role nobody" in refusals(planned(cloud, role, allow_stop=True))["role"]
    other = streaming.write(kiln_toml, target='instance_type = "stream.standard.large"\n')
    assert any("keeps its GeneralPurpose" in note for note in planned(cloud, other, allow_stop=True).notes)

    records = Records(cloud, config)
    revoked = Revocation(image="slicer", version=FIRST, who="ada", when=now(), why="a bad extension")
    key = records.version_key("slicer", FIRST, "revoked.json")
    client("s3").put_object(Bucket=records.bucket, Key=key, Body=written(revoked))
    assert "a bad extension" in refusals(planned(cloud, config))["revoked"]
    changed = [each for each in sent(emulator, before) if each not in ("CreateImportedImage", "CreateFleet")]
    assert set(changed) <= {"CreateStack", "AssociateFleet", "StartFleet"}, (
        "only the test itself changed something"
    )


def test_an_image_that_is_revoked_in_the_middle_of_an_apply_never_comes_to_the_fleet(
    cloud: Cloud, config: Config, client: Clients, emulator: Emulator, custom: None
) -> None:
    streaming.windows_ami(client, SECOND)
    streaming.promote(client, SECOND)
    made = planned(cloud, config)
    records = Records(cloud, config)
    revoked = Revocation(image="slicer", version=SECOND, who="ada", when=now(), why="a bad extension")
    key = records.version_key("slicer", SECOND, "revoked.json")
    client("s3").put_object(Bucket=records.bucket, Key=key, Body=written(revoked))
    with pytest.raises(RefusedError, match="revoked meanwhile by ada"):
        carry_out(made, cloud)
    assert state(client, "kiln-readers")["ImageName"] == name(FIRST)


def test_what_a_fleet_complains_about_is_explained(client: Clients) -> None:
    shape = client("appstream").meta.service_model.shape_for("FleetErrorCode")
    assert len(shape.enum) > 25
    unexplained = [each for each in shape.enum if fleet.hint_for(each) == fleet.hint_for("no such code")]
    assert unexplained == ["VALIDATION_ERROR"], "which is an image's, not a fleet's"


def test_names_of_siblings_fit() -> None:
    assert fleet.sibling("kiln-readers", "CUSTOM") == "kiln-readers-custom"
    long = fleet.sibling("x" * 101, "NATIVE")
    assert len(long) == 101 and long.endswith("-native") and long != fleet.sibling("x" * 100, "NATIVE")
