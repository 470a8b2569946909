"""A server that answers as AWS does, with one Auto Scaling group of one instance and a terminating hook."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
import requests

from tests.emulator import lifecycle

REGION = "us-east-1"
GROUP = "kiln-annotators"
HOOK = "kiln-drain"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


@dataclass(frozen=True)
class Cloud:
    """A running emulator.

    Parameters
    ----------
    endpoint:
        Its address.
    instance:
        Id of the group's instance.
    """

    endpoint: str
    instance: str

    def client(self, service: str) -> Any:
        """A client of it."""
        keys = {key.lower(): value for key, value in CREDENTIALS.items()}
        return boto3.client(service, region_name=REGION, endpoint_url=self.endpoint, **keys)  # type: ignore[call-overload]

    def state(self) -> str:
        """The instance's lifecycle state; empty where the group has let it go."""
        found = self.client("autoscaling").describe_auto_scaling_instances(InstanceIds=[self.instance])
        return "".join(each["LifecycleState"] for each in found["AutoScalingInstances"])

    def protected(self) -> bool:
        """Whether a scale-in may not take it."""
        found = self.client("autoscaling").describe_auto_scaling_instances(InstanceIds=[self.instance])
        return bool(found["AutoScalingInstances"][0]["ProtectedFromScaleIn"])

    def terminate(self) -> None:
        """Have the group end it."""
        self.client("autoscaling").terminate_instance_in_auto_scaling_group(
            InstanceId=self.instance, ShouldDecrementDesiredCapacity=True
        )

    def hook(self, seconds: int) -> None:
        """Give the group its hook; AWS's least timeout is 30 s, a test has no such time."""
        self.client("autoscaling").put_lifecycle_hook(
            LifecycleHookName=HOOK,
            AutoScalingGroupName=GROUP,
            LifecycleTransition=lifecycle.TERMINATING,
            HeartbeatTimeout=seconds,
            DefaultResult="CONTINUE",
        )


@contextmanager
def serve() -> Iterator[str]:
    """Serve on a free port; yields the address."""
    from moto.server import ThreadedMotoServer

    lifecycle.install()
    # Its own client for what it needs of itself must not find a real account's keys.
    before = dict(os.environ)
    os.environ.update({**CREDENTIALS, "AWS_DEFAULT_REGION": REGION})
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    finally:
        server.stop()
        os.environ.clear()
        os.environ.update(before)


def fresh(endpoint: str) -> Cloud:
    """Empty a server, and make the group anew."""
    requests.post(f"{endpoint}/moto-api/reset", timeout=60).raise_for_status()
    lifecycle.RECORD.clear()
    lifecycle.RECORD.on_terminating = lambda _: None
    empty = Cloud(endpoint, "")
    scaling = empty.client("autoscaling")
    scaling.create_launch_configuration(
        LaunchConfigurationName="kiln", ImageId="ami-0123456789abcdef0", InstanceType="t3.small"
    )
    scaling.create_auto_scaling_group(
        AutoScalingGroupName=GROUP,
        LaunchConfigurationName="kiln",
        MinSize=0,
        MaxSize=2,
        DesiredCapacity=1,
        AvailabilityZones=[f"{REGION}a"],
    )
    groups = scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[GROUP])["AutoScalingGroups"]
    return Cloud(endpoint, groups[0]["Instances"][0]["InstanceId"])
