"""What the emulator does before a service answers: record, validation, faults, keys, regions, roles."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from tests.benchmarks import requests_validated
from tests.emulator import answers, modelcheck, recorder, understand
from tests.emulator.credentials import BAD_KEY, EXPIRED_KEY
from tests.emulator.fixtures import ACCOUNT, OTHER
from tests.emulator.handle import Process
from tests.emulator.recorder import RECORD
from tests.emulator.understand import Asked
from tests.unit.test_emulator_images import refused

BUCKET = "kiln-records"


def hasty(emulator: Any, service: str, **more: Any) -> Any:
    """A client that tries once."""
    config = Config(retries={"total_max_attempts": 1}, read_timeout=more.pop("read_timeout", 60))
    return boto3.client(service, region_name="us-east-1", endpoint_url=emulator.endpoint, config=config)


def test_every_request_is_recorded(client: Any, emulator: Any) -> None:
    client("ssm").put_parameter(Name="a", Value="b", Type="String")
    client("ssm", "eu-west-1").describe_parameters()
    first, second = emulator.requests()
    assert (first["service"], first["operation"], first["region"]) == ("ssm", "PutParameter", "us-east-1")
    assert first["params"] == {"Name": "a", "Value": "b", "Type": "String"}
    assert (first["mutating"], first["valid"], first["status"]) == (True, True, 200)
    assert (second["region"], second["mutating"]) == ("eu-west-1", False)
    assert emulator.mutating() == [first]


@pytest.mark.parametrize(
    ("service", "call", "operation"),
    [
        ("ec2", lambda c: c.describe_images(Owners=["self"]), "DescribeImages"),
        ("autoscaling", lambda c: c.describe_auto_scaling_groups(), "DescribeAutoScalingGroups"),
        ("elbv2", lambda c: c.describe_target_groups(), "DescribeTargetGroups"),
        ("cloudwatch", lambda c: c.describe_alarms(), "DescribeAlarms"),
        ("kms", lambda c: c.list_keys(), "ListKeys"),
        ("appstream", lambda c: c.describe_fleets(), "DescribeFleets"),
        ("sts", lambda c: c.get_caller_identity(), "GetCallerIdentity"),
        ("s3", lambda c: c.list_buckets(), "ListBuckets"),
        ("service-quotas", lambda c: c.list_service_quotas(ServiceCode="ec2"), "ListServiceQuotas"),
    ],
)
def test_each_protocol_is_understood(
    client: Any, emulator: Any, service: str, call: Any, operation: str
) -> None:
    call(client(service))
    (seen,) = emulator.requests()
    assert (seen["service"], seen["operation"], seen["wrong"]) == (service, operation, [])
    assert seen["wrong_answer"] == []


def test_a_request_that_the_model_forbids_is_refused_and_told(emulator: Any) -> None:
    ssm = hasty(emulator, "ssm")
    # boto3 looks at types and what is missing, not at patterns and values.
    with refused("ValidationException") as error:
        ssm.put_parameter(Name="a", Value="b", Type="Text")
    assert "Type=Text is not one of" in str(error.value)
    (seen,) = emulator.requests()
    assert not seen["valid"]
    assert emulator.state()["parameters"] == {}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked("ssm", "PutParameter", body=b'{"Name": "a", "Hue": 1}'), "PutParameter.Hue is unknown"),
        (Asked("ec2", "DescribeVpcs", fields={"Action", "Version", "VpcId", "Hue"}), "Hue is unknown"),
        (Asked("ec2", "DescribeHues"), "has no operation DescribeHues"),
        (Asked(problems=["the request is not signed"]), "not signed"),
    ],
)
def test_what_nobody_would_read_of_a_request_is_told(asked: Asked, said: str) -> None:
    lines = recorder.judge(asked)
    assert any(said in line for line in lines)
    assert "VpcId is unknown" not in str(lines)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"Name": "a"}, "Value is missing"),
        ({"Name": "a", "Value": "b", "Color": "red"}, "Color is unknown"),
        ({"Name": "", "Value": "b"}, "has 0 characters"),
        ({"Name": "a", "Value": "b", "Overwrite": "yes"}, "no boolean"),
        ({"Name": "a", "Value": "b", "Tags": [{"Key": "a" * 129, "Value": "b"}]}, "Tags[0].Key"),
        ({"Name": "a", "Value": "b", "Tags": "x"}, "no list"),
    ],
)
def test_the_model_is_held_against_a_request(value: dict[str, Any], said: str) -> None:
    shape = understand.model("ssm").operation_model("PutParameter").input_shape
    assert any(said in line for line in modelcheck.wrong(shape, value, "PutParameter"))
    assert modelcheck.wrong(shape, {"Name": "a", "Value": "b", "Type": "String"}, "PutParameter") == []


@pytest.mark.parametrize(
    ("service", "operation", "body", "said"),
    [
        ("kms", "CreateKey", b'{"KeyMetadata": {"KeyId": "a", "Colour": 1}}', "Colour is unknown"),
        ("kms", "CreateKey", b'{"KeyMetadata": {}}', "KeyId is missing"),
        ("kms", "CreateKey", b"{", "cannot be read"),
        (
            "ec2",
            "DescribeImages",
            b"<D><imagesSet><item><hue>1</hue></item></imagesSet></D>",
            "hue is unknown",
        ),
        (
            "ec2",
            "DescribeImages",
            b"<D><imagesSet><item><imageState>gone</imageState></item></imagesSet></D>",
            "is not one of",
        ),
    ],
)
def test_the_model_is_held_against_an_answer(service: str, operation: str, body: bytes, said: str) -> None:
    asked = Asked(service, operation, "us-east-1")
    assert any(said in line for line in answers.wrong(asked, 200, {}, body))


def test_an_error_without_a_code_is_told() -> None:
    assert answers.wrong(Asked("kms", "CreateKey"), 400, {}, b"{}")
    assert not answers.wrong(Asked("kms", "CreateKey"), 400, {}, b'{"__type": "NotFoundException"}')


def test_a_gap_is_told_and_does_not_look_like_an_outage(client: Any, emulator: Any) -> None:
    with refused("NotEmulated") as error:
        client("ec2").describe_fast_launch_images()
    assert "ec2:DescribeFastLaunchImages" in str(error.value)
    assert len(emulator.requests()) == 1


def test_a_service_that_moto_lacks_is_told(client: Any) -> None:
    with refused("NotEmulated") as error:
        client("pricing").describe_services()
    assert "pricing:DescribeServices: moto lacks the service" in str(error.value)


@pytest.mark.parametrize("fault", ["throttle", "5xx", "reset", "lost"])
@pytest.mark.parametrize("service", ["ssm", "ec2", "s3", "autoscaling", "ebs"])
def test_boto3_survives_a_fault_and_meets_it(client: Any, emulator: Any, fault: str, service: str) -> None:
    calls = {
        "ssm": lambda: client("ssm").describe_parameters(),
        "ec2": lambda: client("ec2").describe_vpcs(),
        "s3": lambda: client("s3").list_buckets(),
        "autoscaling": lambda: client("autoscaling").describe_auto_scaling_groups(),
        "ebs": lambda: client("ebs").start_snapshot(VolumeSize=1, ClientToken="one"),
    }
    emulator.faults([{"service": service, "fault": fault, "times": 2}])
    calls[service]()
    assert [each["fault"] for each in emulator.requests()] == [fault, fault, ""]
    assert emulator.rules()[0]["met"] == 2
    # The retries were one call, and what was made by the lost ones was made once.
    assert len({each["invocation"] for each in emulator.requests()}) == 1
    assert len(emulator.state()["snapshots"]) == (service == "ebs")


def test_a_lost_response_is_of_a_request_that_acted(emulator: Any) -> None:
    emulator.faults([{"operation": "PutParameter", "fault": "lost"}])
    with pytest.raises(ConnectionClosedError):
        hasty(emulator, "ssm").put_parameter(Name="a", Value="b", Type="String")
    assert list(emulator.state()["parameters"]) == [f"{ACCOUNT}/us-east-1a"]


@pytest.mark.parametrize("acts", [False, True])
def test_a_timeout_may_have_acted_or_not(emulator: Any, acts: bool) -> None:
    emulator.faults([{"operation": "PutParameter", "fault": "timeout", "acts": acts}])
    with pytest.raises(ReadTimeoutError):
        hasty(emulator, "ssm", read_timeout=1).put_parameter(Name="a", Value="b", Type="String")
    assert bool(emulator.state()["parameters"]) is acts


def test_a_rule_is_for_some_requests_and_passes_over_the_first(client: Any, emulator: Any) -> None:
    rule = {"params": {"Name": "a.*"}, "after": 1, "fault": "error", "code": "AccessDeniedException"}
    emulator.faults([rule])
    ssm = client("ssm")
    for name in ("a1", "b1"):
        ssm.put_parameter(Name=name, Value="b", Type="String")
    with refused("AccessDeniedException"):
        ssm.put_parameter(Name="a2", Value="b", Type="String")
    ssm.put_parameter(Name="a3", Value="b", Type="String")


def test_a_rule_that_is_none_is_refused(emulator: Any) -> None:
    for rule in ({"fault": "earthquake"}, {"fault": "reset", "servise": "ec2"}):
        with pytest.raises(RuntimeError, match="is no rule"):
            emulator.faults([rule])


def test_a_stale_read_is_what_was_answered_before(client: Any, emulator: Any) -> None:
    ssm = client("ssm")
    ssm.put_parameter(Name="a", Value="1", Type="String")
    ssm.get_parameter(Name="a")
    ssm.put_parameter(Name="a", Value="2", Type="String", Overwrite=True)
    emulator.faults([{"operation": "GetParameter", "fault": "stale"}])
    assert [ssm.get_parameter(Name="a")["Parameter"]["Value"] for _ in "ab"] == ["1", "2"]


def test_every_request_can_take_longer(client: Any, emulator: Any) -> None:
    ssm = client("ssm")
    ssm.describe_parameters()
    emulator.settings(latency=0.5)
    began = time.monotonic()
    ssm.describe_parameters()
    assert time.monotonic() - began >= 0.5


def test_a_client_is_killed_right_after_it_acted(emulator: Any) -> None:
    emulator.faults([{"operation": "PutParameter", "after": 1, "fault": "hook"}])
    text = "import boto3; c = boto3.client('ssm'); " + "; ".join(
        f"c.put_parameter(Name='a{n}', Value='b', Type='String')" for n in range(3)
    )
    process = subprocess.Popen([sys.executable, "-c", text])
    held = emulator.held(120)
    assert held == {"service": "ssm", "operation": "PutParameter", "region": "us-east-1"}
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert emulator.release(drop=True) == 1
    assert len(emulator.state()["parameters"]) == 2


def test_a_held_request_goes_on_when_it_is_let(client: Any, emulator: Any) -> None:
    emulator.faults([{"operation": "PutParameter", "fault": "hook", "when": "before"}])
    put = threading.Thread(target=lambda: client("ssm").put_parameter(Name="a", Value="b", Type="String"))
    put.start()
    assert emulator.held(60)
    assert emulator.state()["parameters"] == {}
    emulator.release()
    put.join(60)
    assert len(emulator.state()["parameters"]) == 1
    assert emulator.held(0) is None


@pytest.mark.parametrize(
    ("service", "call", "expired", "unknown"),
    [
        ("ec2", lambda c: c.describe_vpcs(), "RequestExpired", "AuthFailure"),
        ("sts", lambda c: c.get_caller_identity(), "ExpiredToken", "InvalidClientTokenId"),
        ("ssm", lambda c: c.describe_parameters(), "ExpiredTokenException", "UnrecognizedClientException"),
    ],
)
def test_bad_credentials_are_refused(
    client: Any, service: str, call: Any, expired: str, unknown: str
) -> None:
    with refused(expired):
        call(client(service, key=EXPIRED_KEY, token="t"))
    with refused(unknown):
        call(client(service, key=BAD_KEY))


def test_accounts_are_apart(client: Any) -> None:
    client("ssm").put_parameter(Name="a", Value="b", Type="String")
    assert client("sts", account=OTHER).get_caller_identity()["Account"] == OTHER
    with refused("ParameterNotFound"):
        client("ssm", account=OTHER).get_parameter(Name="a")


def test_a_region_that_is_not_enabled_takes_no_credentials(client: Any, emulator: Any) -> None:
    emulator.settings(regions_disabled=["eu-west-1"])
    with refused("AuthFailure"):
        client("ec2", "eu-west-1").describe_vpcs()
    with refused("UnrecognizedClientException"):
        client("ssm", "eu-west-1").describe_parameters()
    emulator.settings(region_code="OptInRequired")
    with refused("OptInRequired"):
        client("ec2", "eu-west-1").describe_vpcs()
    ec2 = client("ec2")
    assert "eu-west-1" not in [each["RegionName"] for each in ec2.describe_regions()["Regions"]]
    named = ec2.describe_regions(RegionNames=["eu-west-1"], AllRegions=True)["Regions"]
    assert named[0]["OptInStatus"] == "not-opted-in"


def policy(*actions: str, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": resource, **more}],
    }


def acting(emulator: Any, service: str) -> Any:
    """A client with the environment's credentials."""
    return boto3.Session().client(service, region_name="us-east-1", endpoint_url=emulator.endpoint)


def test_a_role_does_what_its_policy_says_and_no_more(client: Any, emulator: Any, acting_as: Any) -> None:
    client("s3").create_bucket(Bucket=BUCKET)
    acting_as(
        policy("ec2:DescribeVpcs"),
        policy("ssm:PutParameter", resource=f"arn:aws:ssm:*:{ACCOUNT}:parameter/kiln/*"),
        policy("s3:PutObject", resource=f"arn:aws:s3:::{BUCKET}/kiln/*"),
    )
    acting(emulator, "ec2").describe_vpcs()
    with refused("UnauthorizedOperation"):
        acting(emulator, "ec2").describe_subnets()
    ssm, s3 = acting(emulator, "ssm"), acting(emulator, "s3")
    ssm.put_parameter(Name="/kiln/a", Value="b", Type="String")
    with refused("AccessDeniedException"):
        ssm.put_parameter(Name="/other/a", Value="b", Type="String")
    s3.put_object(Bucket=BUCKET, Key="kiln/a", Body=b"1")
    with refused("AccessDenied"):
        s3.put_object(Bucket=BUCKET, Key="a", Body=b"1")
    with refused("AccessDenied"):
        acting(emulator, "autoscaling").describe_auto_scaling_groups()
    acting(emulator, "sts").get_caller_identity()


def test_tags_decide_where_a_policy_says_so(client: Any, emulator: Any, acting_as: Any) -> None:
    mine = {"StringEquals": {"aws:RequestTag/kiln:project": "kiln"}}
    owned = {"StringEquals": {"aws:ResourceTag/kiln:project": "kiln"}}
    acting_as(
        policy("ec2:CreateVolume"),
        policy("ec2:CreateTags", resource="arn:aws:ec2:*:*:volume/*", Condition=mine),
        policy("ec2:DeleteVolume", Condition=owned),
    )
    ec2, zone = acting(emulator, "ec2"), "us-east-1a"

    def tags(value: str) -> list[dict[str, Any]]:
        return [{"ResourceType": "volume", "Tags": [{"Key": "kiln:project", "Value": value}]}]

    with refused("UnauthorizedOperation"):
        ec2.create_volume(AvailabilityZone=zone, Size=1, TagSpecifications=tags("other"))
    made = ec2.create_volume(AvailabilityZone=zone, Size=1, TagSpecifications=tags("kiln"))["VolumeId"]
    foreign = client("ec2").create_volume(AvailabilityZone=zone, Size=1)["VolumeId"]
    with refused("UnauthorizedOperation"):
        ec2.delete_volume(VolumeId=foreign)
    ec2.delete_volume(VolumeId=made)


def test_two_writers_of_one_object_are_one_winner(client: Any, emulator: Any) -> None:
    s3 = client("s3")
    s3.create_bucket(Bucket=BUCKET)
    won: list[bool] = []

    def take() -> None:
        try:
            s3.put_object(Bucket=BUCKET, Key="lock", Body=b"1", IfNoneMatch="*")
        except ClientError as error:
            assert error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict")
            won.append(False)
        else:
            won.append(True)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won.count(True) == 1
    etag = s3.head_object(Bucket=BUCKET, Key="lock")["ETag"]
    s3.put_object(Bucket=BUCKET, Key="lock", Body=b"2", IfMatch=etag)
    with refused("PreconditionFailed"):
        s3.put_object(Bucket=BUCKET, Key="lock", Body=b"3", IfMatch=etag)


def test_two_ends_that_differ_only_in_ids_and_times_are_equal(client: Any, emulator: Any) -> None:
    ends = []
    for n in range(2):
        emulator.reset()
        s3 = client("s3")
        s3.create_bucket(Bucket=BUCKET)
        volume = client("ec2").create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]
        client("ec2").create_snapshot(VolumeId=volume, Description=f"of {volume}")
        body = f'{{"when": "2026-11-25T22:0{n}:00Z", "run": "r{n}", "what": "x"}}'.encode()
        s3.put_object(Bucket=BUCKET, Key=f"h/2026112{n}T000000Z-20261124T000000Z-0123abcd.json", Body=body)
        ends.append(emulator.state())
    assert ends[0] == ends[1]
    s3.put_object(Bucket=BUCKET, Key="h/more", Body=b"x")
    assert emulator.state() != ends[1]


def test_the_state_has_what_stands_beside_images(client: Any, emulator: Any) -> None:
    key = client("kms").create_key()["KeyMetadata"]["KeyId"]
    who = f"arn:aws:iam::{OTHER}:root"
    client("kms").create_grant(KeyId=key, GranteePrincipal=who, Operations=["Decrypt"])
    client("cloudwatch").put_metric_alarm(
        AlarmName="a",
        Namespace="n",
        MetricName="m",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=5,
        ComparisonOperator="GreaterThanThreshold",
        Dimensions=[{"Name": "d", "Value": "v"}],
    )
    client("secretsmanager").create_secret(Name="s", SecretString="x")
    where = {"ServiceNamespace": "appstream", "ResourceId": "fleet/f"}
    where["ScalableDimension"] = "appstream:fleet:DesiredCapacity"
    client("application-autoscaling").register_scalable_target(**where, MinCapacity=1, MaxCapacity=2)
    found, start = emulator.state(), f"{ACCOUNT}/us-east-1"
    assert found["grants"] == {f"{start}/{who}": ["Decrypt"]}
    assert found["alarms"][f"{start}/a"]["dimensions"] == ["d=v"]
    assert found["secrets"] == {f"{start}/s": {"deleted": False}}
    assert found["scaling"] == {f"{start}/appstream/fleet/f": {"sizes": [1, 2]}}
    assert all(each["valid"] for each in emulator.requests())


def test_a_record_is_kept_over_resets_where_asked_for(tmp_path: Path) -> None:
    record = tmp_path / "record"
    with Process({RECORD: str(record)}) as process:
        for agent in ("kiln run/1", "other"):
            keys = {"aws_access_key_id": f"AKIAKILN{ACCOUNT}", "aws_secret_access_key": "s"}
            ssm = boto3.client(
                "ssm",
                region_name="us-east-1",
                endpoint_url=process.endpoint,
                config=Config(user_agent_extra=agent),
                **keys,
            )
            ssm.describe_parameters()
            with refused("ValidationException"):
                ssm.put_parameter(Name="a", Value="b", Type="Text")
            process.reset()
    valid, all_, wrong = requests_validated.count(record.read_text().splitlines())
    assert (valid, all_) == (1, 2)
    assert list(wrong) == ["ssm: PutParameter.Type=Text is not one of String, StringList, SecureString"]


def test_a_role_of_another_account_is_there(client: Any, emulator: Any) -> None:
    arn = f"arn:aws:iam::{OTHER}:role/kiln-operator"
    given = client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
    theirs = {"key": given["AccessKeyId"], "token": given["SessionToken"]}
    assert client("sts", **theirs).get_caller_identity()["Account"] == OTHER
    # There is no such role, so nothing allows anything.
    with refused("UnauthorizedOperation"):
        client("ec2", **theirs).describe_vpcs()


def test_the_emulator_prints_its_address_first(emulator: Any) -> None:
    with urllib.request.urlopen(f"{emulator.endpoint}/kiln-api/settings") as answer:
        assert answer.status == 200
