"""Calls to AWS, held against botocore: requests, signatures, addresses, answers; and what goes wrong."""

from __future__ import annotations

import datetime
import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.serialize import create_serializer

from tests.emulator import aws, lifecycle, metadata, ours

import kiln_aws  # isort: skip

assert ours.FOLDERS

KEYS = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "a+token/with=signs")

ARGUMENTS: dict[str, dict[str, Any]] = {
    "describe_auto_scaling_instances": {"InstanceIds": ["i-0123456789abcdef0"]},
    "describe_lifecycle_hooks": {"AutoScalingGroupName": "a group & more"},
    "set_instance_health": {
        "InstanceId": "i-1", "HealthStatus": "Unhealthy", "ShouldRespectGracePeriod": True,
    },
    "set_instance_protection": {
        "InstanceIds": ["i-1", "i-2"], "AutoScalingGroupName": "größe", "ProtectedFromScaleIn": False,
    },
    "record_lifecycle_action_heartbeat": {
        "LifecycleHookName": "h", "AutoScalingGroupName": "g", "InstanceId": "i-1",
    },
    "complete_lifecycle_action": {
        "LifecycleHookName": "h", "AutoScalingGroupName": "g", "InstanceId": "i-1",
        "LifecycleActionResult": "CONTINUE",
    },
    "put_metric_data": {
        "Namespace": "Kiln/Wards",
        "MetricData": [
            {
                "MetricName": "BusyRatio", "Value": 12.5, "Unit": "Percent",
                "Timestamp": "2026-11-25T20:00:00+00:00",
                "Dimensions": [{"Name": "InstanceId", "Value": "i-1"}, {"Name": "G", "Value": "g"}],
            },
            {"MetricName": "LabelsSaved", "Value": 3.0, "Unit": "Count", "Dimensions": []},
        ],
    },
}  # fmt: skip
"""Of every operation, as our programs call it."""

OPERATIONS = [(service, name) for service, names in kiln_aws.ALLOWED.items() for name in names]


def test_each_operation_has_arguments_here() -> None:
    assert sorted(ARGUMENTS) == sorted(name for _, name in OPERATIONS)


def asked(service: str, operation: str) -> dict[str, str]:
    """A request as botocore writes it in the query protocol."""
    model = botocore.session.get_session().get_service_model(service, api_version=None)
    name = "".join(word.capitalize() for word in operation.split("_"))
    made = create_serializer("query").serialize_to_request(ARGUMENTS[operation], model.operation_model(name))
    return {key: str(value) for key, value in made["body"].items()}


@pytest.mark.parametrize(("service", "operation"), OPERATIONS)
def test_a_request_is_botocores(service: str, operation: str) -> None:
    ours_ = dict(urllib.parse.parse_qsl(kiln_aws.form(service, operation, ARGUMENTS[operation]).decode()))
    theirs = asked(service, operation)
    times = {key for key in theirs if key.endswith("Timestamp")}
    for key in times:
        assert datetime.datetime.fromisoformat(ours_[key]) == datetime.datetime.fromisoformat(theirs[key])
    # What is empty, neither an absent list's trace counts.
    assert {k: v for k, v in ours_.items() if k not in times} == {
        k: v for k, v in theirs.items() if k not in times and v != ""
    }


@pytest.mark.parametrize("token", ["", KEYS[2]])
@pytest.mark.parametrize(("service", "operation"), OPERATIONS)
def test_a_signature_is_botocores(
    service: str, operation: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.datetime(2026, 11, 25, 20, 30, 1, tzinfo=datetime.UTC)
    url, body = (
        kiln_aws.endpoint(service, "eu-west-1"),
        kiln_aws.form(service, operation, ARGUMENTS[operation]),
    )
    made = kiln_aws.signed(service, "eu-west-1", url, body, (*KEYS[:2], token), now)
    sent = {key: value for key, value in made.items() if key in ("content-type", "host")}
    request = AWSRequest("POST", url, headers=sent, data=body)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: now.replace(tzinfo=None), raising=False)
    monkeypatch.setattr(
        "botocore.compat.get_current_datetime", lambda *_: now.replace(tzinfo=None), raising=False
    )
    SigV4Auth(Credentials(*KEYS[:2], token or None), kiln_aws.SERVICES[service][1], "eu-west-1").add_auth(
        request
    )
    if request.headers["X-Amz-Date"] != made["x-amz-date"]:
        pytest.fail(f"this botocore takes its time elsewhere: {request.headers['X-Amz-Date']}")
    assert made["authorization"] == request.headers["Authorization"]


def test_addresses_and_versions_are_botocores() -> None:
    session = botocore.session.get_session()
    resolver = session.get_component("endpoint_resolver")
    for service, (prefix, signing, version) in kiln_aws.SERVICES.items():
        regions = [
            region
            for partition in session.get_available_partitions()
            for region in session.get_available_regions(service, partition)
        ]
        assert len(regions) > 20
        for region in regions:
            host = resolver.construct_endpoint(prefix, region)["hostname"]
            assert kiln_aws.endpoint(service, region) == f"https://{host}/"
        model = session.get_service_model(service)
        assert (model.endpoint_prefix, model.signing_name, model.api_version) == (prefix, signing, version)


@pytest.fixture(scope="module")
def cloud() -> Iterator[aws.Cloud]:
    with aws.serve() as endpoint:
        found = aws.fresh(endpoint)
        found.hook(30)
        yield found


def of(cloud: aws.Cloud, **more: Any) -> dict[str, Any]:
    return {"region": aws.REGION, "endpoint": cloud.endpoint, "metadata": "127.0.0.1:9", **more}


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("describe_auto_scaling_instances", {}),
        ("describe_lifecycle_hooks", {"AutoScalingGroupName": aws.GROUP}),
    ],
)
def test_an_answer_is_botocores(cloud: aws.Cloud, operation: str, arguments: dict[str, Any]) -> None:
    (name,) = kiln_aws.ALLOWED["autoscaling"][operation]
    theirs = getattr(cloud.client("autoscaling"), operation)(**arguments)[name]
    mine = kiln_aws.call(of(cloud), "autoscaling", operation, arguments)[name]
    assert len(mine) == len(theirs) == 1
    # What is read of it, by kiln_drain/hook.py and kiln_health/group.py.
    for key in (
        "InstanceId", "AutoScalingGroupName", "LifecycleState", "ProtectedFromScaleIn", "LifecycleHookName",
        "LifecycleTransition", "HeartbeatTimeout",
    ):  # fmt: skip
        assert mine[0].get(key) == theirs[0].get(key), key


def test_nothing_found_is_an_empty_list(cloud: aws.Cloud) -> None:
    found = kiln_aws.call(
        of(cloud), "autoscaling", "describe_auto_scaling_instances", {"InstanceIds": ["i-0"]}
    )
    assert found == {"AutoScalingInstances": []}


def test_a_refusal_has_awss_code_and_words(cloud: aws.Cloud) -> None:
    with pytest.raises(kiln_aws.WrongError, match="No active Lifecycle Action found") as caught:
        kiln_aws.call(
            of(cloud), "autoscaling", "complete_lifecycle_action", ARGUMENTS["complete_lifecycle_action"]
        )
    assert caught.value.code == "ValidationError"
    assert lifecycle.RECORD.made("CompleteLifecycleAction")[-1] == ARGUMENTS["complete_lifecycle_action"]


def test_credentials_are_the_roles(tmp_path: Path) -> None:
    with metadata.serve(tmp_path / "imds.log") as service:
        told = {"metadata": service.address}
        with pytest.raises(kiln_aws.WrongError, match="no role: give it an instance profile"):
            kiln_aws.credentials(told, {})
        folder = "meta-data/iam/security-credentials/"
        service.tree[folder] = "kiln-instance"
        said = {
            "Code": "Success",
            "AccessKeyId": "A",
            "SecretAccessKey": "S",
            "Token": "T",
            "Expiration": "x",
        }
        service.tree[f"{folder}kiln-instance"] = json.dumps(said)
        assert kiln_aws.credentials(told, {}) == ("A", "S", "T")
        assert kiln_aws.credentials(told, {"AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "F"}) == (
            "E", "F", "",
        )  # fmt: skip
    with pytest.raises(kiln_aws.WrongError, match=r"no metadata service at 127\.0\.0\.1:9"):
        kiln_aws.credentials({"metadata": "127.0.0.1:9"}, {})


@contextmanager
def answering(*answers: tuple[int, str, dict[str, str]]) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives these answers in turn; its address and what it was sent."""
    left, got = list(answers), list[bytes]()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["content-length"])))
            status, text, headers = left.pop(0)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", got
    finally:
        server.shutdown()
        server.server_close()


GOOD = "<R><AutoScalingInstances/></R>"
THROTTLED = (
    "<ErrorResponse><Error><Code>Throttling</Code><Message>slow\n down</Message></Error></ErrorResponse>"
)


@pytest.mark.parametrize(
    ("answers", "code", "sent"),
    [
        ([(500, "oops", {}), (400, THROTTLED, {}), (200, GOOD, {})], "", 3),
        ([(503, "", {})] * 3, "503", 3),
        ([(400, THROTTLED.replace("Throttling", "AccessDenied"), {})], "AccessDenied", 1),
        ([(200, "<html>", {})], "NoAnswer", 1),
        ([(200, '<!DOCTYPE a [<!ENTITY b "c">]><R>&b;</R>', {})], "NoAnswer", 1),
        ([(302, "", {"Location": "http://127.0.0.1:9/"})], "302", 1),
    ],
)
def test_what_may_go_well_is_tried_again_and_nothing_else(
    answers: list[tuple[int, str, dict[str, str]]], code: str, sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    pauses: list[float] = []
    with answering(*answers) as (address, got):
        told = {"region": "us-east-1", "endpoint": address, "metadata": ""}
        try:
            found = kiln_aws.call(told, "autoscaling", "describe_auto_scaling_instances", {}, pauses.append)
            assert found == {"AutoScalingInstances": []}
            failed = ""
        except kiln_aws.WrongError as error:
            failed = error.code
    assert (failed, len(got)) == (code, sent)
    assert pauses == [0.5, 1.0][: sent - 1]


def test_who_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    told = {"region": "us-east-1", "endpoint": "http://127.0.0.1:9", "metadata": ""}
    with pytest.raises(kiln_aws.WrongError, match=r"127\.0\.0\.1:9: .*refused"):
        kiln_aws.call(told, "cloudwatch", "put_metric_data", {}, lambda _: None)
