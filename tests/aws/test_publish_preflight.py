"""What must hold in a region before an image goes there: keys, grants, encryption, quotas, the region."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kiln.config import Publish
from launch import key as keys
from launch import preflight
from launch.cloud import Cloud
from launch.key import NEEDED
from tests.aws.conftest import ACCOUNT, OTHER, REGION, REGIONS, shared_key
from tests.emulator.handle import Emulator

ROLE = "arn:aws:iam::{}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"
USE = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]
ALL = [*USE, "kms:CreateGrant"]

Client = Callable[..., Any]


def root(account: str) -> str:
    return f"arn:aws:iam::{account}:root"


def allow(principals: Any, actions: Any = ALL, **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": {"AWS": principals}, "Action": actions, "Resource": "*", **more}


OWNER = allow(root(ACCOUNT), "kms:*")
ROLES = [ROLE.format(ACCOUNT), ROLE.format(OTHER)]
BOTH = [root(OTHER), *ROLES]
GRANTING = allow(BOTH, "kms:CreateGrant", Condition={"Bool": {"kms:GrantIsForAWSResource": "true"}})
ELSEWHERE = {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}
VIA = {"StringEquals": {"kms:CallerAccount": ACCOUNT, "kms:ViaService": f"ec2.{REGION}.amazonaws.com"}}

POLICIES: list[tuple[str, list[dict[str, Any]], list[str]]] = [
    ("as AWS documents it", [OWNER, allow(BOTH, USE), GRANTING], []),
    ("one action a statement", [OWNER, *(allow(BOTH, each) for each in ALL)], []),
    ("everything but", [OWNER, {**allow(BOTH), "NotAction": "kms:Delete*", "Action": []}], []),
    ("only the owner", [OWNER], ["key-auto-scaling", "key-account"]),
    ("not the other's role", [OWNER, allow([root(OTHER), ROLES[0]])], ["key-auto-scaling"]),
    ("not our role", [OWNER, allow([root(OTHER), ROLES[1]])], ["key-auto-scaling"]),
    ("not the other account", [OWNER, allow(ROLES)], ["key-account"]),
    ("one role of the other account", [OWNER, allow([f"arn:aws:iam::{OTHER}:role/ops", *ROLES])], []),
    ("nobody may grant", [OWNER, allow(BOTH, USE)], ["key-auto-scaling", "key-account"]),
    ("anybody of us by EC2", [OWNER, allow("*", Condition=VIA), allow([root(OTHER), ROLES[1]])], []),
    (
        "a condition that nobody can judge",
        [OWNER, allow(BOTH, Condition=ELSEWHERE)],
        ["key-auto-scaling", "key-account"],
    ),
    (
        "denied again",
        [OWNER, allow(BOTH), {**allow(ROLES[0], "kms:Decrypt"), "Effect": "Deny"}],
        ["key-auto-scaling"],
    ),
    (
        "denied where nobody can tell",
        [OWNER, allow(BOTH), {**allow("*", "kms:*", Condition=ELSEWHERE), "Effect": "Deny"}],
        ["key-auto-scaling", "key-account"],
    ),
]


@pytest.mark.parametrize(("name", "statements", "found"), POLICIES, ids=[each[0] for each in POLICIES])
def test_a_policy_is_judged_by_who_may_launch(
    name: str, statements: list[dict[str, Any]], found: list[str]
) -> None:
    key = keys.Key(f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1", REGION, customer=True)
    policy = {"Version": "2012-10-17", "Statement": statements}
    judged = [keys._account(key, account, policy, []) for account in (ACCOUNT, OTHER)]
    assert [each.check for each in judged if each] == found


def test_a_grant_is_as_good_as_the_policy() -> None:
    key = keys.Key(f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1", REGION, customer=True)
    policy = {"Statement": [OWNER]}
    grant = {"GranteePrincipal": ROLES[0], "Operations": list(NEEDED)}
    assert keys._account(key, ACCOUNT, policy, [grant]) is None
    for harm in ({"Operations": list(NEEDED[1:])}, {"GranteePrincipal": ROLES[1]}, {"Constraints": {"a": 1}}):
        refusal = keys._account(key, ACCOUNT, policy, [{**grant, **harm}])
        assert refusal is not None
        assert "aws kms create-grant" in refusal.hint


def publish(**values: Any) -> Publish:
    return Publish(**{"regions": [REGION], "share_with": [OTHER], "kms_key": "alias/kiln", **values})


def checks(cloud: Cloud, wanted: Publish) -> list[str]:
    return [each.check for each in preflight.look(cloud, REGION, wanted, new=True).refusals]


def key_with(client: Client, statements: list[dict[str, Any]]) -> str:
    kms = client("kms")
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    arn: str = kms.create_key(Policy=policy)["KeyMetadata"]["Arn"]
    kms.create_alias(AliasName="alias/kiln", TargetKeyId=arn)
    return arn


def test_keys_of_an_account(cloud: Cloud, client: Client, emulator: Emulator) -> None:
    """No key, one that Auto Scaling may not use, one with a grant, one that is disabled."""
    before = len(emulator.mutating())
    assert checks(cloud, publish()) == ["key-missing"]
    assert len(emulator.mutating()) == before
    arn = key_with(client, [OWNER, allow([root(OTHER), ROLES[1]])])
    assert checks(cloud, publish()) == ["key-auto-scaling"]
    kms = client("kms")
    kms.create_grant(KeyId=arn, GranteePrincipal=ROLES[0], Operations=list(NEEDED))
    found = preflight.look(cloud, REGION, publish(), new=True)
    assert found.refusals == []
    assert found.key is not None
    assert found.key.arn == arn
    assert checks(cloud, publish(kms_key={REGION: arn})) == []
    kms.disable_key(KeyId=arn.rsplit("/", 1)[1])
    assert checks(cloud, publish()) == ["key-disabled"]


def test_the_default_key(cloud: Cloud, client: Client) -> None:
    own = publish(kms_key=None, share_with=[])
    found = preflight.look(cloud, REGION, own, new=True)
    assert (found.key, found.refusals) == (None, [])
    arn = shared_key(client("kms"))
    client("ec2").modify_ebs_default_kms_key_id(KmsKeyId=arn)
    found = preflight.look(cloud, REGION, own, new=True)
    assert found.key is not None
    assert (found.key.arn, found.refusals) == (arn, [])


def test_an_account_that_encrypts_by_default(cloud: Cloud, client: Client) -> None:
    plain = publish(encrypt=False, kms_key=None)
    assert checks(cloud, plain) == []
    client("ec2").enable_ebs_encryption_by_default()
    assert checks(cloud, plain) == ["encryption-by-default"]


def test_quotas(cloud: Cloud, client: Client, emulator: Emulator) -> None:
    plain = publish(encrypt=False, kms_key=None)
    emulator.settings(quotas={"ec2/L-B665C33B": 0, "ebs/L-309BACF6": 0})
    assert checks(cloud, plain) == ["quota", "quota"]
    assert preflight.look(cloud, REGION, plain, new=False).refusals == []


def test_regions(cloud: Cloud, emulator: Emulator) -> None:
    assert preflight.not_enabled(cloud, list(REGIONS)) == []
    found = preflight.not_enabled(cloud, [REGION, "xx-nowhere-1"])
    assert [each.check for each in found] == ["region-enabled"]
    assert "xx-nowhere-1" in found[0].what
    emulator.settings(regions_disabled=[REGIONS[1]])
    found = preflight.not_enabled(cloud, list(REGIONS))
    assert [each.what for each in found] == [f"{REGIONS[1]} is not enabled for account {ACCOUNT}"]
