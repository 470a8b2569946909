"""What a version of a launch template must say, and which quota an instance type counts against."""

from __future__ import annotations

from typing import Any

import pytest

from launch import names, template
from launch.group_checks import QUOTAS
from launch.release import Machine, Release
from launch.template import Version
from tests.unit import contract

MACHINE = Machine(
    id="ami-2",
    name="kiln-monai-label-2",
    owner="111122223333",
    state="available",
    tags={},
    root_device="/dev/xvda",
    snapshots={"/dev/xvda": "snap-2"},
    encrypted=True,
    architecture="x86_64",
    deprecated=None,
    root_gb=40,
)
RELEASE = Release("monai-label", contract.VERSION, MACHINE, contract.made(), "d" * 64, "kiln")


def base(**data: Any) -> Version:
    return Version("lt-1", "annotators", 6, "", {"ImageId": "ami-1", "InstanceType": "g5.xlarge", **data})


def wanted(of: Version, rate: int | None = None, former_root: str | None = None) -> dict[str, Any]:
    return template.changes(of, RELEASE, "annotators", "", rate, former_root)


def test_a_template_without_anything_gets_image_imds_and_tags() -> None:
    found = wanted(base())
    assert set(found) == {"ImageId", "MetadataOptions", "TagSpecifications"}
    assert found["MetadataOptions"] == {"HttpTokens": "required", "HttpEndpoint": "enabled"}


def test_tags_of_others_stay_and_ours_of_before_go() -> None:
    old = {"ResourceType": "instance", "Tags": names.tags({"team": "a", names.VERSION: "1", "kiln:odd": "x"})}
    other = {"ResourceType": "network-interface", "Tags": names.tags({"team": "a"})}
    found = {
        each["ResourceType"]: names.read(each["Tags"])
        for each in wanted(base(TagSpecifications=[old, other]))["TagSpecifications"]
    }
    assert found["instance"] == {"team": "a", names.TARGET: "annotators", **RELEASE.labels}
    assert found["network-interface"] == {"team": "a"}


def test_a_snapshot_of_the_root_is_never_kept_and_other_disks_are() -> None:
    root = {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": "snap-1", "VolumeSize": 60, "Iops": 4000}}
    data = {"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": "snap-9"}}
    found = wanted(base(BlockDeviceMappings=[root, data]), rate=200)["BlockDeviceMappings"]
    assert found == [
        data,
        {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 60, "Iops": 4000, "VolumeInitializationRate": 200}},
    ]


def test_a_root_of_another_name_moves() -> None:
    root = {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": "snap-1", "VolumeSize": 60}}
    found = wanted(base(BlockDeviceMappings=[root]), former_root="/dev/sda1")["BlockDeviceMappings"]
    assert found == [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 60}}]


def test_a_rate_that_is_asked_for_no_more_goes() -> None:
    root = {"DeviceName": "/dev/xvda", "Ebs": {"VolumeInitializationRate": 200}}
    found = wanted(base(BlockDeviceMappings=[root]))["BlockDeviceMappings"]
    assert found == [{"DeviceName": "/dev/xvda", "Ebs": {"DeleteOnTermination": True}}]


def test_what_is_said_already_is_not_said_again_in_another_order() -> None:
    must = wanted(base())
    tags = [{**each, "Tags": each["Tags"][::-1]} for each in must["TagSpecifications"][::-1]]
    there = base(**{**must, "TagSpecifications": tags})
    assert template.says(there, must)
    assert template.differing(base(), must) == ["ImageId", "MetadataOptions", "TagSpecifications"]
    assert template.same(there, base(), must)
    assert not template.same(base(**{**must, "KeyName": "mine"}), base(), must)


def test_the_description_follows_from_what_is_said() -> None:
    must = wanted(base())
    said = template.describe(RELEASE, base(), must)
    assert said.startswith(f"monai-label@{contract.VERSION} from 6 ")
    assert said == template.describe(RELEASE, base(), dict(reversed(must.items())))
    assert said != template.describe(RELEASE, base(), {**must, "ImageId": "ami-3"})


@pytest.mark.parametrize(
    ("kind", "quota"),
    [
        ("g5.xlarge", "L-DB2E81BA"),
        ("g4dn.xlarge", "L-DB2E81BA"),
        ("gr6.4xlarge", "L-DB2E81BA"),
        ("vt1.3xlarge", "L-DB2E81BA"),
        ("p3.2xlarge", "L-417A185B"),
        ("p4d.24xlarge", "L-417A185B"),
        ("m6i.large", "L-1216C47A"),
        ("is4gen.large", "L-1216C47A"),
        ("inf1.xlarge", None),
        ("hpc7a.96xlarge", None),
        ("mac1.metal", None),
        ("trn1.2xlarge", None),
        ("x2idn.16xlarge", None),
    ],
)
def test_an_instance_type_counts_against_one_quota(kind: str, quota: str | None) -> None:
    found = [each.on_demand for each in QUOTAS if each.families.fullmatch(kind.partition(".")[0])]
    assert found == ([quota] if quota else [])
